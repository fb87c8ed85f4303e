"""The command line: `monograph demo`, `monograph demo gpt`, `monograph doctor`.."""
