"""Files become rules and mappings: read, checked, every fault told at once. What is true of a ticket is the core's."""
