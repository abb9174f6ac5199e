"""Parts of the start of an attempt: the files that its container gets."""
