"""The networks as plain torch modules: they know nothing of noise levels, files, devices or prompts."""
