"""Images: what they consist of, where they come from, what they are called."""
