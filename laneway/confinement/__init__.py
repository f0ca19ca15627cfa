"""Takes rights away from a child process before it touches anything hostile. Linux; standard library only.

confine      `confine(Confinement)`: applies all of it, and says what the kernel did not give
namespaces   own file tree, own processes, own network
landlock     which files may be opened, whatever their owner and mode
seccomp      which system calls are answered
rights       another user, no capabilities, hard limits
kernel       the calls of the C library that Python has no function for

A child calls this after `fork`, while it has one thread. It imports nothing of Laneway, so that a program that runs
isolated from the application (`python -I -S`) can use it.
"""
