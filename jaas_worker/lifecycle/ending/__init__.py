"""Parts of the end of an attempt: its output is read, and its files are copied to the store."""
