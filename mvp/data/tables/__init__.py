"""What tables say: studies, patients, views, files, labels, cells."""
