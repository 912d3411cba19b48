"""Payment gateways: the port, its adapters, and the dispatcher of all calls."""
