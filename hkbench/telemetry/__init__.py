"""What a piece of work cost: host and NVML. May import store, config and errors."""
