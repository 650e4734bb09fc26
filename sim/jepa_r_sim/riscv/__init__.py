"""Instructions, random programs, traces and checks of the island's processor."""
