public import MoECore

