# kombu 5.7

from kombu.connection import Connection as Connection
from kombu.entity import Exchange as Exchange
from kombu.entity import Queue as Queue
from kombu.message import Message as Message
from kombu.messaging import Producer as Producer
