"""What requests for text have in common, chats and completions: their fields, their faults, their resumption."""
