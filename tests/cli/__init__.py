"""The command line, run in this process; the pub it talks to is a script on a real unix socket."""
