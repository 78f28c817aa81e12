"""What everything else is built on: messages, settings, units, files, tables and errors."""
