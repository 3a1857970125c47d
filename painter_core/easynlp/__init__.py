"""EasyNLP's outer forms: its command lines and its output lines."""
