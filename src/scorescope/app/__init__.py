"""The commands as functions: open what is named, run a study, write its page."""
