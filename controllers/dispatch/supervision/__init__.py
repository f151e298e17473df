"""The supervisor process: starts agent programs, outlives the engine, and keeps the record of how each run ended.

Everything in this package runs in a process of its own (see ``controllers/dispatch/supervisor.py``) and imports the
standard library only. ``records`` and ``wire`` are also what the engine uses to read the same files and to speak the
same protocol. No policy belongs here: what to start, and what an exit means, is decided by the engine.

Layout of a state directory::

    supervisor/lock          flock, held by the living supervisor
    supervisor/socket        where it listens; or, when that path is too long,
    supervisor/socket-path   the path of the socket in a private temporary directory
    supervisor/log           what it has to say
    supervisor/starts        the journal of starts: durable before a program is started, as long as started.json is not
    runs/<run>/started.json  there before the program is started; never holds a value of its environment
    runs/<run>/process.json  pid and start time, to recognise the process later
    runs/<run>/stdout.log    output, capped
    runs/<run>/stderr.log
    runs/<run>/exit.json     how it ended; the truth about the run from then on

What it cannot do. Work that a program hands to somebody else (a container engine, a job scheduler, another machine)
is no descendant of it and goes on. A process that changed its user cannot be signalled; the record then says that it
may still be running. A process in a session of its own that also dropped REMIT_MISSION_FILE from its environment is
ended with the last run that could have started it, and survives when supervisor and guardian are killed at the same
moment. Outside Linux only process groups are followed. Records are written where requests are served, so a slow disk
delays the answers of all runs; output waits in its pipes meanwhile and nothing is lost.
"""
