"""Payment gateways: the port, its adapters, and the rule by which they are asked again."""
