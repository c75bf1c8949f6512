"""Asks a server of PostgreSQL's protocol as notebooks do. Arguments: port, password. Prints a JSON object of what was answered."""

import asyncio
import datetime
import json
import sys
from decimal import Decimal

import asyncpg
import pandas
import psycopg
import sqlalchemy

port, password = sys.argv[1:3]
where = dict(host="127.0.0.1", port=port, user="notebook", password=password, dbname="twofold")
first, last = datetime.date(2026, 3, 1), datetime.date(2026, 3, 6)
told = {}


def plain(value):
    return str(value) if isinstance(value, (Decimal, datetime.date)) else value


with psycopg.connect(**where) as connection:
    by_day = "SELECT day, sum(total) FROM clicks_day WHERE day BETWEEN %s AND %s GROUP BY day ORDER BY day"
    told["text"] = [[plain(value) for value in row] for row in connection.execute(by_day, (first, last))]
    cursor = connection.cursor(binary=True)
    told["binary"] = [[plain(value) for value in row] for row in cursor.execute(by_day, (first, last))]
    sql = """SELECT sum(total * price) FROM clicks_day JOIN ads ON clicks_day.ad_id = ads.ad_id
        AND day >= valid_from AND (valid_to IS NULL OR day < valid_to) WHERE currency = %s"""
    told["amount"] = plain(connection.execute(sql, ("EUR",)).fetchone()[0])
    with connection.cursor(name="hours") as cursor:
        cursor.itersize = 50
        told["cursor"] = sum(1 for _ in cursor.execute("SELECT * FROM clicks_hour"))
    told["stream"] = sum(1 for _ in connection.cursor().stream("SELECT * FROM clicks_hour"))
    with connection.transaction():
        row = connection.execute("SELECT period_start, ad_id FROM clicks_minute ORDER BY 1, 2 LIMIT 1").fetchone()
        try:
            with connection.transaction():
                connection.execute("SELECT nothing FROM clicks_day")
        except psycopg.Error as error:
            told["refused"] = error.sqlstate
        told["after a savepoint"] = connection.execute("SELECT 1").fetchone()[0]
        told["instant"] = row[0].astimezone(datetime.timezone.utc).isoformat()
    told["list"] = connection.execute("SELECT count(DISTINCT ad_id) FROM clicks_day WHERE ad_id = ANY(%s)", (["ad-1", "ad-2"],)).fetchone()[0]
    prepared = "SELECT count(*) FROM clicks_day WHERE ad_id = %s"
    told["prepared"] = [connection.execute(prepared, (f"ad-{ad}",), prepare=True).fetchone()[0] for ad in range(3)]


async def by_asyncpg():
    connection = await asyncpg.connect(host="127.0.0.1", port=int(port), user="notebook", password=password, database="twofold")
    rows = await connection.fetch(
        "SELECT day, sum(total) AS billed FROM clicks_day WHERE day >= $1 GROUP BY day ORDER BY day", first)
    told["asyncpg"] = [[plain(row["day"]), row["billed"]] for row in rows]
    async with connection.transaction(readonly=True):
        told["asyncpg cursor"] = len([row async for row in connection.cursor("SELECT * FROM clicks_hour")])
    await connection.close()


asyncio.run(by_asyncpg())
engine = sqlalchemy.create_engine(f"postgresql+psycopg://notebook:{password}@127.0.0.1:{port}/twofold")
inspector = sqlalchemy.inspect(engine)
told["sqlalchemy"] = sorted(inspector.get_table_names() + inspector.get_view_names())
told["columns"] = {column["name"]: str(column["type"]) for column in inspector.get_columns("clicks_day")}
days = sqlalchemy.Table("clicks_day", sqlalchemy.MetaData(), autoload_with=engine)
with engine.connect() as connection:
    total = sqlalchemy.select(sqlalchemy.func.sum(days.c.total)).where(days.c.day == first, days.c.ad_id != "nobody")
    told["reflected"] = int(connection.execute(total).scalar_one())
table = pandas.read_sql("SELECT day, sum(total) AS billed FROM clicks_day GROUP BY day ORDER BY day", engine)
told["pandas"] = [[str(day), int(billed)] for day, billed in table.itertuples(index=False)]
json.dump(told, sys.stdout)
