"""Ways of looking at a model: what is measured on it, and how that is shown."""
