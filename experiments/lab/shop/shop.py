# A small shop as people run it: Flask, SQLAlchemy's connection pool with its usual settings, and
# prometheus_client. Users log in and look at or upload images; everything but /health needs the database.
#
# Environment: SHOP_DATABASE_URL_FILE; SHOP_RELEASE_FILE and SHOP_LIVE_FILE (settings.py says what is in them);
# SHOP_OPERATIONS, an address for operations.py; SHOP_POOLED, set when a pooler of connections stands before the
# database; planted defects, each off when unset: SHOP_LOGIN_CACHE (a file of e-mails that log in without the
# database), SHOP_NEVER_RECONNECTS (one database error, and it gives up), SHOP_ERRORS_CACHED (an error is given again
# to whoever asks the same) and SHOP_PLANS_STAY (a session that was slow once stays so).

import os
import random
import threading
import time
from contextlib import contextmanager

import flask
import prometheus_client
import sqlalchemy
from prometheus_client.core import GaugeMetricFamily
from sqlalchemy import event, exc, text
from sqlalchemy.pool import QueuePool

import operations
import settings

ROUTES = ("/login", "/api/images", "/admin", "/sales")
DB_ERROR_CODES = ("acquire_timeout", "53300", "57014", "57P01", "57P03", "25006", "connection", "other")
LOGINS = {
    "indexed": text("SELECT id, password_hash FROM users WHERE email = :email"),
    "lower-email": text("SELECT id, password_hash FROM users WHERE lower(email) = lower(:email)"),
}
SALES = text("SELECT date_trunc('day', created_at) AS day, count(*) AS orders, sum(cents) AS cents "
             "FROM orders GROUP BY 1 ORDER BY 1 DESC")

app = flask.Flask(__name__)
values = settings.Values(os.environ["SHOP_RELEASE_FILE"], os.environ["SHOP_LIVE_FILE"])


class Pool(QueuePool):
    """SQLAlchemy's, whose size and patience can be changed while it is in use, as those of other pools can."""

    def resize(self, size):
        with self._overflow_lock:
            self._overflow += self._pool.maxsize - size  # it counts connections beyond the size
            self._pool.maxsize = size
        while self._overflow > 0:
            try:
                connection = self._pool.get(False)
            except sqlalchemy.util.queue.Empty:
                return  # those in use are closed when they are given back to a full pool
            connection.close()
            self._dec_overflow()

    def set_patience(self, seconds):
        self._timeout = seconds


with open(os.environ["SHOP_DATABASE_URL_FILE"]) as url_file:
    engine = sqlalchemy.create_engine(
        url_file.read().strip(), poolclass=Pool, pool_size=int(values["pool-size"]), max_overflow=0,
        pool_timeout=settings.seconds(values["acquire-timeout"]),
        connect_args={"connect_timeout": 2, "application_name": "shop"})

statement_timeout_ms = round(1000 * (settings.seconds(values["statement-timeout"]) or 0))
# Before a pooler, what a session is told would stay with a connection that somebody else is given next: there each
# transaction is told.
POOLED = bool(os.environ.get("SHOP_POOLED"))


@event.listens_for(engine, "connect")
def limit_session(connection, record):
    if not POOLED:
        with connection.cursor() as cursor:
            cursor.execute(f"SET statement_timeout = {statement_timeout_ms}")
        connection.commit()


def setting_changed(name):
    if name == "pool-size":
        engine.pool.resize(int(values[name]))
    elif name == "acquire-timeout":
        engine.pool.set_patience(settings.seconds(values[name]))


operations.open_door(os.environ["SHOP_OPERATIONS"], values, setting_changed)

started = prometheus_client.Counter("http_requests_started_total", "Requests that arrived.")
finished = prometheus_client.Counter("http_requests_total", "Requests that were answered.",
                                     ["route", "code"])
in_flight = prometheus_client.Gauge("http_requests_in_flight", "Requests being worked on.")
duration = prometheus_client.Histogram(
    "http_request_duration_seconds", "Time to answer a request.", ["route"],
    buckets=(.005, .01, .025, .05, .1, .25, .5, 1, 2, 2.5, 5, 10))
query_duration = prometheus_client.Histogram(
    "db_query_duration_seconds", "Time of a query, without waiting for a connection.",
    buckets=(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5))
acquire_timeouts = prometheus_client.Counter(
    "db_pool_acquire_timeouts_total", "Requests that gave up waiting for a connection of the pool.")
db_errors = prometheus_client.Counter("db_errors_total", "Failed uses of the database.", ["code"])

# A series that appears only with the first error has no rate for that error, and until then a rule about it
# cannot be told from one with a typing mistake.
for route in ROUTES:
    duration.labels(route)
    for status in ("200", "503", "504"):
        finished.labels(route, status)
for error_code in DB_ERROR_CODES:
    db_errors.labels(error_code)


class PoolMetrics:
    """Reads the pool at scrape time, so that the numbers cannot drift from it."""

    def __init__(self):
        self._lock = threading.Lock()
        self._acquiring = 0

    @contextmanager
    def acquiring(self):
        with self._lock:
            self._acquiring += 1
        try:
            yield
        finally:
            with self._lock:
                self._acquiring -= 1

    def collect(self):
        in_use = engine.pool.checkedout()
        idle = engine.pool.checkedin()
        connections = GaugeMetricFamily("db_pool_connections", "Connections of the pool.",
                                        labels=["state"])
        connections.add_metric(["total"], in_use + idle)
        connections.add_metric(["idle"], idle)
        connections.add_metric(["in_use"], in_use)
        yield connections
        yield GaugeMetricFamily("db_pool_max", "Size of the pool.", value=engine.pool.size())
        # One that was given back while a hundred wait is free only until the next of them wakes up.
        waiting = max(0, self._acquiring - max(0, engine.pool.size() - in_use))
        yield GaugeMetricFamily("db_pool_waiting", "Requests waiting for a connection.", value=waiting)


pool_metrics = PoolMetrics()
prometheus_client.REGISTRY.register(pool_metrics)


class DatabaseFailed(Exception):
    def __init__(self, code):
        super().__init__(code)
        self.code = code


def error_code_of(error):
    if isinstance(error, exc.TimeoutError):
        return "acquire_timeout"
    original = getattr(error, "orig", None)
    if getattr(original, "pgcode", None):
        return original.pgcode if original.pgcode in DB_ERROR_CODES else "other"
    # psycopg2 gives no SQLSTATE for a refused connection, only the server's words (lc_messages is C).
    words = str(original)
    if "remaining connection slots" in words or "too many c" in words:
        return "53300"
    if "is starting up" in words or "is shutting down" in words:
        return "57P03"
    return "connection"


class GaveUp:
    """The planted defect of a client that never reconnects: the first error is remembered for ever."""

    enabled = bool(os.environ.get("SHOP_NEVER_RECONNECTS"))
    code = None


class RememberedErrors:
    """The planted defect of a cache that keeps errors, too: who was refused once is refused for 10 minutes."""

    enabled = bool(os.environ.get("SHOP_ERRORS_CACHED"))
    routes = ("/login", "/admin")
    keep_s = 600
    until = {}  # (what was asked) → (until when, the error)

    @classmethod
    def of(cls, asked):
        until, code = cls.until.get(asked, (0, None))
        return code if time.monotonic() < until else None

    @classmethod
    def keep(cls, request, code):
        if cls.enabled and request.path in cls.routes:
            cls.until[request.full_path] = (time.monotonic() + cls.keep_s, code)


# The planted defect of a session that keeps its bad plan: what PostgreSQL plans anew, an optimizer that learns and a
# pooled connection with a pinned plan do not.
PLANS_STAY = bool(os.environ.get("SHOP_PLANS_STAY"))


# The planted defect of a volume that only the person who first set the shop up has mounted.
UPLOADS_UNMOUNTED = bool(os.environ.get("SHOP_UPLOADS_UNMOUNTED"))


def execute_login(connection, statement, email):
    """The session whose login was cancelled once scans the table from then on, whatever index there is."""
    if PLANS_STAY and connection.info.get("slow_plan"):
        connection.exec_driver_sql("SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off; "
                                   "SET LOCAL enable_indexonlyscan = off")
    try:
        return connection.execute(statement, {"email": email}).first()
    except exc.SQLAlchemyError as error:
        connection.info["slow_plan"] = error_code_of(error) == "57014"
        raise


# Connections whose owner has forgotten them. Nothing but a restart of the shop gives them back.
forgotten = []


@contextmanager
def database(forget=False):
    """A connection of the pool, given back at the end, or forgotten as a client with a bug forgets it."""
    if GaveUp.code:
        raise DatabaseFailed(GaveUp.code)
    try:
        with pool_metrics.acquiring():
            connection = engine.connect()
        try:
            begin = time.monotonic()
            if POOLED:
                connection.exec_driver_sql(f"SET LOCAL statement_timeout = {statement_timeout_ms}")
            try:
                yield connection
            finally:
                query_duration.observe(time.monotonic() - begin)
        finally:
            if forget:
                forgotten.append(connection)
            else:
                connection.close()
    except exc.SQLAlchemyError as error:
        code = error_code_of(error)
        db_errors.labels(code).inc()
        if code == "acquire_timeout":
            acquire_timeouts.inc()
        if GaveUp.enabled:
            GaveUp.code = code
        raise DatabaseFailed(code) from error


def login_cache():
    path = os.environ.get("SHOP_LOGIN_CACHE")
    if not path:
        return frozenset()
    with open(path) as emails:
        return frozenset(emails.read().split())


CACHED_LOGINS = login_cache()


@app.before_request
def request_starts():
    if flask.request.path not in ("/health", "/metrics"):
        flask.g.begin = time.monotonic()
        started.inc()
        in_flight.inc()
        code = RememberedErrors.of(flask.request.full_path)
        if code:
            return error_reply(code)


@app.after_request
def request_ends(response):
    if "begin" in flask.g:
        rule = flask.request.url_rule
        route_label = rule.rule if rule else "other"
        duration.labels(route_label).observe(time.monotonic() - flask.g.begin)
        finished.labels(route_label, str(response.status_code)).inc()
        in_flight.dec()
    return response


@app.errorhandler(DatabaseFailed)
def database_failed(error):
    RememberedErrors.keep(flask.request, error.code)
    return error_reply(error.code)


def error_reply(code):
    return {"error": code}, 504 if code == "57014" else 503


@app.get("/login")
def login():
    email = flask.request.args.get("email", "")
    if email in CACHED_LOGINS:
        return {"user": email}
    with database(forget=random.random() < float(values["leak-share"])) as connection:
        row = execute_login(connection, LOGINS[values["login-query"]], email)
    if row is None:
        return {"error": "no such user"}, 401
    return {"user": row.id}


@app.get("/api/images")
def list_images():
    with database() as connection:
        rows = connection.execute(text("SELECT id, name FROM images ORDER BY id DESC LIMIT 20")).all()
    return {"images": [{"id": row.id, "name": row.name} for row in rows]}


@app.post("/api/images")
def upload_image():
    if UPLOADS_UNMOUNTED:
        return error_reply("uploads_unmounted")
    name = flask.request.args.get("name", "upload")[:200]
    with database() as connection:
        with connection.begin():
            row = connection.execute(
                text("INSERT INTO images (user_id, name) VALUES (1, :name) RETURNING id"), {"name": name}).first()
    return {"id": row.id}


@app.get("/admin")
def admin():
    with database() as connection:
        row = connection.execute(text("SELECT count(*) AS images, max(created_at) AS newest FROM images")).first()
        for _ in range(int(values["admin-reports"])):
            connection.execute(SALES).all()
    return {"images": row.images, "newest": row.newest.isoformat() if row.newest else None}


class Reports:
    """So many at a time, for as long as a report may take: then they cannot take the pool from everybody else."""

    lock = threading.Lock()
    running = 0

    @classmethod
    @contextmanager
    def one(cls):
        with cls.lock:
            limit = values["report-limit"]
            if limit != "none" and cls.running >= int(limit):
                raise DatabaseFailed("too_many_reports")
            cls.running += 1
        try:
            yield
        finally:
            with cls.lock:
                cls.running -= 1


@app.get("/sales")
def sales():
    with Reports.one(), database() as connection:
        if values["report-limit"] != "none":
            connection.exec_driver_sql("SET LOCAL statement_timeout = 1000")
        rows = connection.execute(SALES).all()
    return {"days": [{"day": row.day.isoformat(), "orders": row.orders, "cents": int(row.cents)} for row in rows]}


@app.get("/health")
def health():
    return {"alive": True}


@app.get("/metrics")
def metrics():
    return flask.Response(prometheus_client.generate_latest(),
                          mimetype=prometheus_client.CONTENT_TYPE_LATEST)
