#!/usr/bin/env python3
"""The sample database of ./scripts/quickstart: a small shop's products and its orders of the last two days.

  sample_shop.py create  FILE   makes it, the same on every machine, with orders up to now
  sample_shop.py trouble FILE   a payment provider fails: forty orders in a row cannot be paid
"""

import random
import sqlite3
import sys
from datetime import datetime, timedelta, timezone

PRODUCTS = [
    ("Espresso machine", 24900, True), ("Grinder", 11900, True), ("Kettle", 5900, False), ("Scale", 3900, False),
    ("Filter papers", 690, True), ("House blend, 1 kg", 2290, True), ("Single origin, 250 g", 1190, False),
    ("Milk jug", 2490, False), ("Tamper", 3490, False), ("Cleaning tablets", 1290, True),
]


def at(moment):
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def create(shop):
    dice = random.Random(2026)
    shop.executescript("""
        PRAGMA journal_mode = WAL;
        CREATE TABLE products (
            id INTEGER PRIMARY KEY, name TEXT NOT NULL, price_cents INTEGER NOT NULL,
            bestseller INTEGER NOT NULL, stock INTEGER NOT NULL
        );
        CREATE TABLE orders (
            id INTEGER PRIMARY KEY, placed_at TEXT NOT NULL, product_id INTEGER NOT NULL REFERENCES products (id),
            quantity INTEGER NOT NULL, amount_cents INTEGER NOT NULL, payment TEXT NOT NULL
        );
        CREATE INDEX orders_by_time ON orders (placed_at);
    """)
    for number, (name, price, bestseller) in enumerate(PRODUCTS, start=1):
        shop.execute("INSERT INTO products VALUES (?, ?, ?, ?, ?)",
                     (number, name, price, bestseller, dice.randint(40, 400)))
    moment = datetime.now(timezone.utc)
    # Backwards from now, a little more than one order every two minutes; one payment in forty fails.
    for _ in range(1_500):
        order(shop, dice, moment, "failed" if dice.random() < 0.025 else "paid")
        moment -= timedelta(seconds=dice.expovariate(1 / 110))


def trouble(shop):
    dice = random.Random()
    for seconds in range(40):
        order(shop, dice, datetime.now(timezone.utc) - timedelta(seconds=seconds), "failed")


def order(shop, dice, moment, payment):
    product = dice.randrange(len(PRODUCTS))
    quantity = dice.choice([1, 1, 1, 1, 2, 2, 3])
    shop.execute("INSERT INTO orders (placed_at, product_id, quantity, amount_cents, payment) VALUES (?, ?, ?, ?, ?)",
                 (at(moment), product + 1, quantity, quantity * PRODUCTS[product][1], payment))


def main():
    tasks = {"create": create, "trouble": trouble}
    if len(sys.argv) != 3 or sys.argv[1] not in tasks:
        sys.exit(__doc__)
    shop = sqlite3.connect(sys.argv[2], timeout=10)
    with shop:
        tasks[sys.argv[1]](shop)
    shop.close()


if __name__ == "__main__":
    main()
