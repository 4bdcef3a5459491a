"""Where pictures and their annotations come from: the embedded world, and files in known formats."""
