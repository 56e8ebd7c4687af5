"""Private parts of the page of a study: the notebook widgets in Panel, and one file a tab that is more than a widget."""
