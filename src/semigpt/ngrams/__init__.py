"""N-gram counts of a text, and what they say of the next token."""
