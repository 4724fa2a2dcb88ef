"""Read, check, refuse with file and line, split by prompt, tokenise, write with a manifest."""
