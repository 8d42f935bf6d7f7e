"""What may happen: decisions and events, as pure functions. No I/O, no clock, no randomness, no asyncio."""
