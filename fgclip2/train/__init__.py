"""Training: the tokenizer of a small model, and the loop that makes the embedded one."""
