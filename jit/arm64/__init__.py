"""aarch64: the agent that runs emitted code elsewhere, and the devices that carry it."""
