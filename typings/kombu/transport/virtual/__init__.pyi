# kombu 5.7

from kombu.transport.virtual.base import Channel as Channel
from kombu.transport.virtual.base import Message as Message
from kombu.transport.virtual.base import QoS as QoS
from kombu.transport.virtual.base import Transport as Transport
