import MoE
