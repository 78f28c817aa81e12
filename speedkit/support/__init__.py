"""What everything else stands on: messages, settings, units, files, tables and errors."""
