int moe_placeholder;
