"""The totals of an invoice."""

import unittest
from decimal import Decimal

from invoice.totals import gross, net

PRICES = [Decimal("19.99"), Decimal("5.01")]


class Totals(unittest.TestCase):
    """Sums with discount and taxes."""

    def test_the_discount_is_taken_off(self) -> None:
        self.assertEqual(net(PRICES, discount_percent=10), Decimal("22.50"))

    def test_taxes_are_added(self) -> None:
        self.assertEqual(gross(PRICES, tax_percent=19), Decimal("29.75"))

    def test_taxes_are_paid_on_what_is_left_after_the_discount(self) -> None:
        self.assertEqual(gross(PRICES, tax_percent=19, discount_percent=10), Decimal("26.78"))
