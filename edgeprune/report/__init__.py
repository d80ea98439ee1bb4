"""Reports: JSON, Markdown and HTML views of what a compile measured."""
