# kombu 5.7

from kombu.asynchronous.hub import Hub as Hub
from kombu.asynchronous.hub import get_event_loop as get_event_loop
