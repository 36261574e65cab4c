"""The web page of the admin port, in headless Chromium: what an operator sees and does in it.

With REDRAFT_SCREENSHOTS=1 the pictures of the documentation are written to docs/images.
"""

import contextlib
import itertools
import json
import os
import pathlib
import re
import signal
import socket
import socketserver
import threading
import time

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from servers import CHECKOUT, Node, client

pytestmark = pytest.mark.redraft_only

CHROMIUM = "/usr/bin/chromium"
DEADLINE_MS = 15_000
WIDE, PHONE = 1280, 390
IMAGES = CHECKOUT / "docs" / "images"
expect.set_options(timeout=DEADLINE_MS)


class Pages:
    """Pages of one test, each in a browser context of its own, and what they complained of on the browser's console."""

    def __init__(self, browser: Browser):
        self.browser = browser
        self.contexts = []
        self.faults = []
        self.tolerated = None

    def open(self, admin: str, view: str = "", width: int = WIDE, scheme: str = "light", **options) -> Page:
        page = self.visit(admin, view, width, scheme, **options)
        expect(page.locator("#strip")).to_contain_text("sees it")
        return page

    def visit(self, admin: str, view: str = "", width: int = WIDE, scheme: str = "light", **options) -> Page:
        context = self.browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **options)
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(DEADLINE_MS)
        page.on("console", lambda message: message.type == "error" and self.faults.append(message.text))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.goto(f"http://{admin}/#/{view}")
        return page

    def tolerate_failed_requests(self):
        """For tests that cause them: the browser reports every request that is refused or finds nobody."""
        self.tolerated = re.compile("Failed to load resource")

    def close(self):
        for context in self.contexts:
            context.close()
        assert [fault for fault in self.faults if not (self.tolerated and self.tolerated.search(fault))] == []


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield started
        started.close()


@pytest.fixture
def pages(browser):
    opened = Pages(browser)
    yield opened
    opened.close()


@pytest.fixture
def db(cluster):
    """A client of the shared cluster, which is empty and whole."""
    cluster.wait_until_healthy()
    with client(cluster.port) as connection:
        connection.flushall()
        yield connection


def admin_of(cluster, position: int = 0) -> str:
    return cluster.status()[position]["admin"]


def answer_dialog(page: Page, button: str):
    """Presses a button of the open dialog, and sees it close."""
    page.get_by_role("dialog").get_by_role("button", name=button, exact=True).click()
    expect(page.get_by_role("dialog")).to_have_count(0)


def open_key(page: Page, key: str):
    page.get_by_label("Prefix").fill(key)
    page.get_by_role("button", name="Show", exact=True).click()
    page.get_by_role("button", name=key, exact=True).click()
    expect(page.get_by_role("region", name="Key", exact=True).get_by_role("heading", name=key, exact=True)).to_be_visible()


def value_shown(page: Page):
    return page.get_by_label("Value", exact=True)


def send(page: Page, line: str):
    page.locator("#command").fill(line)
    page.locator("#command").press("Enter")


def last_reply(page: Page):
    return page.locator(".log .reply").last


# --- Every view, in both colour schemes and at both widths -------------------------------------------------------------------------------

VIEWS = {
    "": ("Overview", "Recent events"),
    "keys": ("Keys", "invoice:0001"),
    "console": ("Console", "Arrow keys recall earlier commands"),
    "slow-log": ("Slow log", "Refresh"),
    "configuration": ("Configuration", "request-timeout"),
    "members": ("Members", "Make leader…"),
}


def fill_keyspace(db):
    lines = [{"item": "bolt", "pieces": 12}, {"item": "nut", "pieces": 12}]
    db.mset({f"invoice:{number:04}": json.dumps({"number": number, "lines": lines, "paid": False}) for number in range(1, 40)})
    db.set(b"invoice:\xff\x00", bytes(range(256)))
    db.set("invoice:" + "long" * 100, "w" * 2000, ex=3600)


def show_view(page: Page, title: str):
    page.get_by_role("navigation").get_by_role("link", name=title, exact=True).click()
    expect(page.get_by_role("heading", level=1, name=title, exact=True)).to_be_visible()


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    return page.locator("html").evaluate("root => root.scrollWidth - root.clientWidth")


@pytest.mark.parametrize("width", [WIDE, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_fits_its_window(cluster, db, pages, scheme, width):
    fill_keyspace(db)
    page = pages.open(admin_of(cluster), width=width, scheme=scheme)
    for view, (title, content) in VIEWS.items():
        show_view(page, title)
        expect(page.get_by_role("main")).to_contain_text(content)
        assert overflow(page) <= 0, f"{title} is too wide"
        assert page.url.endswith(f"#/{view}")
    show_view(page, "Keys")
    for key in ["invoice:" + "long" * 100, "invoice:0002"]:
        open_key(page, key)
        assert overflow(page) <= 0, f"Keys is too wide with {key[:20]}"


def test_colours_follow_the_system_until_somebody_chooses(cluster, pages):
    page = pages.open(admin_of(cluster), scheme="dark")
    colour = "root => getComputedStyle(root).backgroundColor"
    dark = page.locator("html").evaluate(colour)
    page.get_by_label("Colours").select_option("light")
    light = page.locator("html").evaluate(colour)
    assert light != dark
    page.reload()
    expect(page.get_by_label("Colours")).to_have_value("light")
    assert page.locator("html").evaluate(colour) == light


def test_the_overview_tells_of_all_nodes_and_moves(cluster, db, pages):
    page = pages.open(admin_of(cluster))
    for row in cluster.status():
        expect(page.locator(f'tr[data-node="{row["node_id"]}"]')).to_contain_text(row["listen"])
    expect(page.locator('tr[data-role="leader"]')).to_have_count(1)
    for title in ("Commands", "Reads", "Writes"):
        expect(page.get_by_role("img", name=re.compile(f"^{title}"))).to_be_visible()
    expect(page.locator("path.line-1").first).to_have_attribute("d", re.compile("L.*L"))
    db.set("k", "v")
    expect(page.locator(".facts div").filter(has_text=re.compile("^Keys"))).to_have_text("Keys1")


# --- Keys --------------------------------------------------------------------------------------------------------------------------------


def test_a_key_is_created_found_edited_and_deleted(cluster, db, pages):
    pages.tolerate_failed_requests()
    page = pages.open(admin_of(cluster, 1), "keys")
    page.get_by_role("button", name="New key…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Key", exact=True).fill("first:key")
    dialog.get_by_label("Value", exact=True).fill('{"a":[1,2.50]}')
    dialog.get_by_label("Expires after").fill("600")
    answer_dialog(page, "Create")
    assert db.get("first:key") == b'{"a":[1,2.50]}'
    assert 0 < db.ttl("first:key") <= 600
    expect(value_shown(page)).to_have_text('{\n  "a": [\n    1,\n    2.50\n  ]\n}')

    page.get_by_role("button", name="New key…").click()
    dialog.get_by_label("Key", exact=True).fill("first:key")
    dialog.get_by_role("button", name="Create").click()
    expect(dialog.get_by_role("alert")).to_contain_text("already")
    answer_dialog(page, "Cancel")

    open_key(page, "first:key")
    page.get_by_role("button", name="Edit…").click()
    dialog.get_by_label("Value", exact=True).fill("edited")
    answer_dialog(page, "Save")
    expect(value_shown(page)).to_have_text("edited")
    assert db.get("first:key") == b"edited"
    assert 0 < db.ttl("first:key") <= 600

    page.get_by_role("button", name="Delete…").click()
    expect(dialog).to_contain_text("first:key")
    answer_dialog(page, "Delete")
    expect(page.get_by_text("No key fits.")).to_be_visible()
    assert db.exists("first:key") == 0
    assert "first" not in page.url


def test_a_change_of_somebody_else_is_seen_before_it_is_overwritten(cluster, db, pages):
    pages.tolerate_failed_requests()
    db.set("shared", "one")
    page = pages.open(admin_of(cluster), "keys")
    open_key(page, "shared")
    page.get_by_role("button", name="Edit…").click()
    dialog = page.get_by_role("dialog")
    db.set("shared", "by somebody else")
    dialog.get_by_label("Value", exact=True).first.fill("mine")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Somebody changed the key")
    expect(dialog).to_contain_text("by somebody else")
    assert db.get("shared") == b"by somebody else"
    answer_dialog(page, "Save")
    assert db.get("shared") == b"mine"


def test_what_is_stored_is_shown_and_never_acts(cluster, db, pages):
    markup = '<img src=x onerror="document.title = 1">'
    db.set(markup, markup)
    db.set("bytes", b"\x00\xfe\xff")
    db.set("lines", "one\r\ntwo")
    page = pages.open(admin_of(cluster), "keys")
    open_key(page, markup)
    expect(value_shown(page)).to_have_text(markup)
    assert page.locator("main img[src]").count() == 0
    open_key(page, "bytes")
    expect(value_shown(page)).to_have_text("00 fe ff")
    open_key(page, "lines")
    page.get_by_role("button", name="Edit…").click()
    answer_dialog(page, "Save")
    assert db.get("lines") == b"one\r\ntwo"


def test_the_beginning_of_the_longest_value_is_shown(cluster, db, pages):
    db.set("longest", b"\xff" + bytes((64 << 20) - 1))
    db.set("letters", "ß" * (1 << 20))
    page = pages.open(admin_of(cluster), "keys")
    for key, form, beginning, cut in [
        ("longest", "hex", "ff 00 00", "The first 49,152 bytes of 67,108,864."),
        ("longest", "base64", "/wAAAA", "The first 49,152 bytes of 67,108,864."),
        ("letters", "text", "ßßß", "The first 49,152 bytes of 2,097,152."),
    ]:
        page.get_by_label("Prefix").fill(key)
        page.get_by_role("button", name="Show", exact=True).click()
        page.get_by_role("button", name=key, exact=True).click()
        page.get_by_role("button", name="Fetch").click()
        page.get_by_role("region", name="Key", exact=True).get_by_label("As").select_option(form, timeout=60_000)
        expect(value_shown(page)).to_have_text(re.compile(f"^{beginning}"))
        expect(page.get_by_text(cut)).to_be_visible()


def test_keys_come_page_by_page_in_both_directions(cluster, db, pages):
    db.mset({f"k:{number:03}": "v" for number in range(60)})
    page = pages.open(admin_of(cluster), "keys")
    listed = page.locator("button.link")
    expect(listed.first).to_have_text("k:000")
    page.get_by_role("button", name="Next page").click()
    expect(listed.first).to_have_text("k:025")
    page.get_by_role("button", name="Previous page").click()
    expect(listed.first).to_have_text("k:000")
    page.get_by_label("From", exact=True).fill("k:010")
    page.get_by_label("To before").fill("k:012")
    page.get_by_label("backwards").check()
    page.get_by_role("button", name="Show", exact=True).click()
    expect(listed).to_have_text(["k:011", "k:010"])
    with client(cluster.port, db=3) as third:
        third.set("elsewhere", "v")
    page.get_by_label("From", exact=True).fill("")
    page.get_by_label("To before").fill("")
    page.get_by_label("Database").select_option("3")
    expect(listed).to_have_text(["elsewhere"])


def test_keys_that_a_browser_takes_out_of_a_path_are_keys_like_others(cluster, db, pages):
    pages.tolerate_failed_requests()
    page = pages.open(admin_of(cluster), "keys")
    dialog = page.get_by_role("dialog")
    for typed, key in [('""', b""), (".", b"."), ("..", b"..")]:
        page.get_by_role("button", name="New key…").click()
        dialog.get_by_label("Key", exact=True).fill(typed)
        dialog.get_by_label("Value", exact=True).fill("one")
        answer_dialog(page, "Create")
        assert db.get(key) == b"one", key
        page.get_by_role("button", name=typed, exact=True).click()
        expect(value_shown(page)).to_have_text("one")
        page.get_by_role("button", name="Edit…").click()
        dialog.get_by_label("Value", exact=True).fill("two")
        answer_dialog(page, "Save")
        assert db.get(key) == b"two", key
        page.get_by_role("button", name="Delete…").click()
        answer_dialog(page, "Delete")
        expect(page.get_by_text("No key fits.")).to_be_visible()
        assert db.exists(key) == 0, key


def test_keys_that_are_no_text_are_found_as_they_are_shown(cluster, db, pages):
    db.mset({b"a\xff\x00": "bytes", b"a\xff\x01": "other", "plain": "text", '"quoted"': "text too"})
    page = pages.open(admin_of(cluster), "keys")
    listed = page.locator("button.link")
    for prefix, expected in [
        (r'"a\xff"', [r'"a\xff\x00"', r'"a\xff\x01"']),
        ("pl", ["plain"]),
        ('"pl"', ["plain"]),
        ('"q', [r'"\"quoted\""']),
        (r'"\"q"', [r'"\"quoted\""']),
    ]:
        page.get_by_label("Prefix").fill(prefix)
        page.get_by_role("button", name="Show", exact=True).click()
        expect(listed).to_have_text(expected)
    page.get_by_label("Prefix").fill("")
    page.get_by_label("From", exact=True).fill(r'"a\xff\x01"')
    page.get_by_label("To before").fill("b")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(listed).to_have_text([r'"a\xff\x01"'])
    listed.first.click()
    expect(value_shown(page)).to_have_text("other")


# --- Console, slow log, configuration, members -------------------------------------------------------------------------------------------


def test_the_console_answers_as_redis_cli_does(cluster, db, pages):
    page = pages.open(admin_of(cluster), "console")
    for line, expected in [
        ('set "two words" "line\\n"', "OK"),
        ('get "two words"', '"line\\n"'),
        ("get nothing", "(nil)"),
        ("strlen 'two words'", "(integer) 5"),
        ("mget nothing 'two words'", '1) (nil)\n2) "line\\n"'),
        ("keys nothing*", "(empty array)"),
        ("select 3", "OK"),
        ("dbsize", "(integer) 0"),
        ("select 0", "OK"),
        ('set "open', "Invalid argument(s)"),
        ("nosuch", re.compile(r"^\(error\) ERR unknown command")),
        ("multi", re.compile(r"^\(error\)")),
    ]:
        send(page, line)
        expect(last_reply(page)).to_have_text(expected)
    page.locator("#command").press("ArrowUp")
    page.locator("#command").press("ArrowUp")
    expect(page.locator("#command")).to_have_value("nosuch")
    assert "two" not in page.url


def test_the_slow_log_and_the_configuration_are_those_of_the_asked_node(cluster, db, pages):
    page = pages.open(admin_of(cluster), "slow-log")
    expect(page.get_by_role("table", name="Slow commands").or_(page.get_by_text("No command was slow enough"))).to_be_visible()
    page.get_by_role("link", name="Configuration").click()
    page.get_by_label("Search").fill("maxclients")
    row = page.get_by_role("row").filter(has=page.get_by_text("maxclients", exact=True))
    expect(row).to_have_count(1)
    before = db.config_get("maxclients")["maxclients"]
    try:
        row.get_by_role("button").click()
        expect(page.get_by_role("dialog")).to_contain_text("alone")
        expect(page.get_by_role("dialog")).to_contain_text("1 to ")
        page.get_by_role("dialog").get_by_label("Value").fill("777")
        answer_dialog(page, "Change it")
        expect(row).to_contain_text("777")
        assert db.config_get("maxclients")["maxclients"] == "777"
    finally:
        db.config_set("maxclients", before)


def test_members_are_told_apart_and_leadership_is_handed_over(cluster, db, pages):
    position = (cluster.leader() + 1) % 3
    node = cluster.status()[position]["node_id"]
    page = pages.open(admin_of(cluster), "members")
    expect(page.get_by_role("table", name="Replication")).to_contain_text("replicate")
    expect(page.get_by_role("table", name="Replication")).not_to_contain_text("silent")
    page.get_by_role("button", name=f"Make node {node} the leader").click()
    expect(page.get_by_role("dialog")).to_contain_text("No acknowledged write is lost.")
    answer_dialog(page, f"Make node {node} the leader")
    expect(page.locator("#strip")).to_contain_text(f"Node {node} leads")
    page.get_by_role("button", name=f"Remove node {node}").click()
    expect(page.get_by_role("dialog")).to_contain_text("2 voters and survives the loss of none")
    answer_dialog(page, "Cancel")
    page.get_by_role("button", name="Compare all data…").click()
    page.get_by_role("dialog").get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_text("All members hold the same data.").first).to_be_visible(timeout=60_000)


def test_a_comparison_tells_that_it_goes_on(cluster, db, pages):
    page = pages.open(admin_of(cluster), "members")
    pending = []
    page.route("**/command", lambda route: pending.append(route))
    page.get_by_role("button", name="Compare all data…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Compare", exact=True).click()
    expect(dialog.get_by_role("status")).to_contain_text("have been reading for")
    pending[0].continue_()
    expect(page.get_by_text("All members hold the same data.").first).to_be_visible(timeout=60_000)
    expect(dialog).to_have_count(0)


# --- Failures ----------------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def supervisor_held(node_pid: int):
    """Keeps the supervisor from starting a killed node again, so that its absence can be seen."""
    supervisor = int(re.search(r"^PPid:\s*(\d+)", pathlib.Path(f"/proc/{node_pid}/status").read_text(), re.MULTILINE)[1])
    assert b"redraft" in pathlib.Path(f"/proc/{supervisor}/cmdline").read_bytes(), "the node's parent is the supervisor"
    os.kill(supervisor, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(supervisor, signal.SIGCONT)


def test_the_leaders_death_is_seen_within_three_seconds(own_cluster, pages):
    pages.tolerate_failed_requests()
    own_cluster.wait_until_healthy()
    position = own_cluster.leader()
    rows = own_cluster.status()
    victim, survivor = rows[position], rows[(position + 1) % 3]
    node = victim["node_id"]
    elsewhere, its_own = pages.open(survivor["admin"]), pages.open(victim["admin"])
    as_leader = f'[data-node="{node}"][data-role="leader"][data-reachable="true"]'
    for page in (elsewhere, its_own):
        expect(page.locator(f"tr{as_leader}")).to_be_visible()
        expect(page.locator("#strip")).to_contain_text("all of them reachable")
    with supervisor_held(victim["pid"]):
        os.kill(victim["pid"], signal.SIGKILL)
        deadline = time.monotonic() + 3
        for page in (elsewhere, its_own):
            remaining_ms = max(1, 1000 * (deadline - time.monotonic()))
            expect(page.locator(f'tr[data-node="{node}"]:not({as_leader})')).to_be_visible(timeout=remaining_ms)
        remaining_ms = max(1, 1000 * (deadline - time.monotonic()))
        expect(its_own.locator("#strip")).not_to_contain_text(f"as node {node} sees it", timeout=remaining_ms)
        for page in (elsewhere, its_own):
            expect(page.locator("#strip")).to_contain_text(re.compile(rf"Node (?!{node}\b)\d+ leads"))
        # Every view goes on through another node: the page needs nothing more from the one that served it.
        for view, (title, content) in VIEWS.items():
            its_own.get_by_role("link", name=title, exact=True).click()
            expect(its_own.get_by_role("main")).to_contain_text("No key fits." if view == "keys" else content)
        its_own.get_by_role("link", name="Console", exact=True).click()
        send(its_own, "set after death")
        expect(last_reply(its_own)).to_have_text("OK")
        with client(int(survivor["listen"].rpartition(":")[2])) as db:
            assert db.get("after") == b"death"
    for page in (elsewhere, its_own):
        expect(page.locator("#strip")).to_contain_text("all of them reachable", timeout=30_000)


def test_a_command_without_an_answer_is_told_as_unknown(own_cluster, pages):
    pages.tolerate_failed_requests()
    own_cluster.wait_until_healthy()
    row = own_cluster.status()[0]
    page = pages.open(row["admin"], "console")
    os.kill(row["pid"], signal.SIGSTOP)
    try:
        send(page, "incr n")
        expect(last_reply(page)).to_contain_text("executed: unknown")
        expect(page.locator("#strip")).not_to_contain_text(f"as node {row['node_id']} sees it")
    finally:
        os.kill(row["pid"], signal.SIGCONT)


def test_the_page_goes_through_the_node_that_is_chosen(cluster, db, pages):
    page = pages.open(admin_of(cluster))
    node = cluster.status()[2]["node_id"]
    page.get_by_label("Through").select_option(str(node))
    expect(page.locator("#strip")).to_contain_text(f"as node {node} sees it")
    expect(page.get_by_role("status")).to_contain_text(f"through node {node}")


@contextlib.contextmanager
def tunnel(admin: str):
    """Another port of this machine that leads to an admin port, as `kubectl port-forward` and ssh make one; its address."""
    host, port = admin.split(":")

    def copy(source: socket.socket, target: socket.socket):
        with contextlib.suppress(OSError):
            while piece := source.recv(1 << 16):
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)

    class Link(socketserver.BaseRequestHandler):
        def handle(self):
            with socket.create_connection((host, int(port))) as inner:
                back = threading.Thread(target=copy, args=(inner, self.request), daemon=True)
                back.start()
                copy(self.request, inner)
                back.join()

    class Links(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Links(("127.0.0.1", 0), Link) as links:
        threading.Thread(target=links.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{links.server_address[1]}"
        finally:
            links.shutdown()


def test_through_a_tunnel_the_page_says_that_it_can_ask_one_node_only(cluster, db, pages):
    admin = admin_of(cluster)
    own = pages.open(admin)
    expect(own.locator("#strip")).to_contain_text("sees it")
    expect(own.get_by_text("other nodes refuse")).to_have_count(0)
    own.goto("about:blank")
    # What the others refuse stands on the browser's console.
    pages.tolerated = re.compile("Failed to load resource|CORS|Content Security Policy")
    with tunnel(admin) as address:
        page = pages.open(address)
        expect(page.get_by_text("the other nodes refuse")).to_be_visible()
        expect(page.get_by_role("link", name=admin)).to_have_attribute("href", f"http://{admin}/")
        page.goto("about:blank")


# --- Keyboard and password ---------------------------------------------------------------------------------------------------------------


def test_the_keyboard_is_enough(cluster, db, pages):
    db.set("k", "v")
    page = pages.open(admin_of(cluster))
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    page.get_by_role("link", name="Keys", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="Keys")).to_be_focused()
    page.get_by_role("button", name="k", exact=True).focus()
    page.keyboard.press("Enter")
    delete = page.get_by_role("button", name="Delete…")
    delete.focus()
    page.keyboard.press("Enter")
    # The focus is on what does no harm, and goes back to where it was.
    expect(page.get_by_role("dialog").get_by_role("button", name="Cancel")).to_be_focused()
    page.keyboard.press("Escape")
    expect(delete).to_be_focused()
    assert db.exists("k") == 1


def test_with_a_password_the_page_needs_it_once(tmp_path, pages):
    # The browser tells on its console of the first request, which is refused.
    pages.tolerate_failed_requests()
    node = Node(tmp_path, requirepass="geheim: ß 密")
    try:
        node.start()
        page = pages.visit(f"127.0.0.1:{node.port + 1000}", "console")
        for password in ("wrong", "geheim: ß 密"):
            page.get_by_role("dialog").get_by_label("Password").fill(password)
            page.get_by_role("dialog").get_by_label("Password").press("Enter")
        for _ in range(2):
            expect(page.locator("#strip")).to_contain_text("sees it")
            send(page, "set k v")
            expect(last_reply(page)).to_have_text("OK")
            expect(page.get_by_role("dialog")).to_have_count(0)
            page.reload()
    finally:
        node.close()


def test_the_password_is_changed_without_being_shown(tmp_path, pages):
    pages.tolerate_failed_requests()
    node = Node(tmp_path, requirepass="before")
    try:
        node.start()
        page = pages.visit(f"127.0.0.1:{node.port + 1000}", "configuration")
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Password").fill("before")
        answer_dialog(page, "Sign in")
        page.get_by_role("button", name="Change requirepass").click()
        field = dialog.get_by_label("Value")
        expect(field).to_have_attribute("type", "password")
        expect(field).to_have_value("")
        dialog.get_by_role("button", name="Change it").click()
        with client(node.port, password="before") as connection:
            assert connection.ping(), "an empty field is not sent"
        field.fill("after")
        answer_dialog(page, "Change it")
        with client(node.port, password="after") as connection:
            assert connection.ping()
        # The page goes on with it.
        page.reload()
        expect(page.locator("#strip")).to_contain_text("sees it")
        expect(dialog).to_have_count(0)
    finally:
        node.close()


# --- Parts that need no cluster, in the browser that runs them ---------------------------------------------------------------------------


def in_module(page: Page, module: str, expression: str, argument):
    """Evaluates an expression of `m`, a module of the page, and `a`, the argument."""
    return page.evaluate(f"async (a) => {{ const m = await import('/assets/{module}.js'); return {expression}; }}", argument)


def test_lines_are_split_as_redis_cli_splits_them(cluster, pages):
    page = pages.open(admin_of(cluster))
    for line, expected in [
        ("", []),
        ("  get   k ", ["get", "k"]),
        ('set k "a b"', ["set", "k", "a b"]),
        (r'echo "\x41\n\"\\"', ["echo", 'A\n"\\']),
        (r"echo 'it\'s \n'", ["echo", r"it's \n"]),
        ('echo ""', ["echo", ""]),
        ("echo grüße\t🙂", ["echo", "grüße", "🙂"]),
    ]:
        assert in_module(page, "command_line", "m.split(a)", line) == expected, line
    for line in ['"open', "'open", '"a"b', r'"\xff"']:
        assert in_module(page, "command_line", "(() => { try { return m.split(a); } catch { return null; } })()", line) is None, line


def test_replies_are_printed_as_redis_cli_prints_them(cluster, pages):
    page = pages.open(admin_of(cluster))

    def reply(kind, value=None, **more):
        return {"type": kind, "value": value} | more

    one, two = reply("integer", 1), reply("bulk", 'a"\n')
    for given, expected in [
        (reply("simple", "OK"), "OK"),
        (two, r'"a\"\n"'),
        (reply("bulk", "AP8=", encoding="base64"), r'"\x00\xff"'),
        (reply("null"), "(nil)"),
        (reply("error", "ERR no"), "(error) ERR no"),
        (reply("double", 1.5), "(double) 1.5"),
        (reply("boolean", True), "(true)"),
        (reply("array", []), "(empty array)"),
        (reply("array", [one, reply("array", [one, two])]), '1) (integer) 1\n2) 1) (integer) 1\n   2) "a\\"\\n"'),
        (reply("array", [one] * 10), "\n".join(f"{number:2}) (integer) 1" for number in range(1, 11))),
        (reply("set", [one]), "1~ (integer) 1"),
        (reply("map", [[two, one]]), '1# "a\\"\\n" => (integer) 1'),
        (reply("map", [two, one]), '1# "a\\"\\n" => (integer) 1'),
    ]:
        assert in_module(page, "command_line", "m.printReply(['x'], a)", given) == expected, given


def test_values_keep_their_bytes_in_every_form(cluster, pages):
    page = pages.open(admin_of(cluster))
    round_trip = "m.FORMS.filter((f) => f.fits(Uint8Array.from(a))).map((f) => [...f.parse(f.show(Uint8Array.from(a)))])"
    for value, forms in [(b"", 3), ("grüße\n".encode(), 3), (b"\xef\xbb\xbfmark", 3), (b"cr\r\n", 2), (bytes(range(256)), 2)]:
        assert in_module(page, "bytes", round_trip, list(value)) == [list(value)] * forms, value
    for value, length, expected in [("aß", 2, "a"), ("aß", 3, "aß"), ("ab", 1, "a"), ("", 5, "")]:
        shown = in_module(page, "bytes", "m.decode(m.beginning(m.encode(a[0]), a[1]))", [value, length])
        assert shown == expected, (value, length)
    as_shown = "[...m.fromReadable(m.readable(Uint8Array.from(a)))]"
    for key in [b"", b"plain", b'"', b'"quoted"', b"\\x41", b"tab\tline\n", "grüße".encode(), bytes(range(256))]:
        assert in_module(page, "bytes", as_shown, list(key)) == list(key), key
    for text, expected in [
        ('{"a":[],"b":{}}', '{\n  "a": [],\n  "b": {}\n}'),
        ('[1.0,"[,]"]', '[\n  1.0,\n  "[,]"\n]'),
        ("1", None),
        ("{", None),
    ]:
        assert in_module(page, "bytes", "m.prettyJson(a)", text) == expected, text


def test_the_page_tells_when_a_node_is_gone_and_nobody_answers(own_node, pages):
    pages.tolerate_failed_requests()
    page = pages.open(f"127.0.0.1:{own_node.port + 1000}")
    own_node.kill()
    expect(page.locator("#strip")).to_contain_text("No node answers.")
    own_node.start()
    expect(page.locator("#strip")).to_contain_text("leads")


# --- Pictures ----------------------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def load(port: int):
    """Some traffic, for pictures in which something happens."""
    stop = threading.Event()

    def work():
        with client(port) as db:
            for number in itertools.count():
                if stop.is_set():
                    return
                db.set("invoice:0001", json.dumps({"number": 1, "lines": [], "paid": number % 2 == 0}))
                db.mget("invoice:0001", "invoice:0002")

    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        stop.set()
        worker.join()


def wait_for_samples(page: Page, number: int):
    """Until a plot has so many."""
    expect(page.locator("path.line-1").first).to_have_attribute("d", re.compile("(L[^L]*){%d}" % number), timeout=150_000)


def take_picture(page: Page, name: str):
    page.mouse.move(0, 0)
    size = page.viewport_size
    bottom = page.get_by_role("main").evaluate("main => main.getBoundingClientRect().bottom")
    IMAGES.mkdir(exist_ok=True)
    page.screenshot(path=IMAGES / f"dashboard-{name}.png", clip={"x": 0, "y": 0, **size, "height": min(bottom, size["height"])})


if os.environ.get("REDRAFT_SCREENSHOTS") == "1":

    @pytest.mark.timeout(300)
    def test_pictures_are_taken(own_cluster, pages):
        own_cluster.wait_until_healthy()
        leader = own_cluster.leader()
        asked = (leader + 1) % 3
        admin = admin_of(own_cluster, asked)
        with client(own_cluster.ports[asked]) as db:
            fill_keyspace(db)
        overviews = {
            "overview-light": pages.open(admin, scheme="light"),
            "overview-dark": pages.open(admin, scheme="dark"),
            "overview-phone": pages.open(admin, scheme="light", width=PHONE),
        }
        # The plots show two minutes, with a failover in them.
        with load(own_cluster.ports[asked]):
            wait_for_samples(overviews["overview-light"], 70)
            own_cluster.kill(leader)
            wait_for_samples(overviews["overview-light"], 105)
            for name, page in overviews.items():
                take_picture(page, name)
            page = pages.open(admin, "keys")
            page.get_by_label("Prefix").fill("invoice:000")
            page.get_by_role("button", name="Show", exact=True).click()
            page.get_by_role("button", name="invoice:0002", exact=True).click()
            expect(value_shown(page)).to_be_visible()
            take_picture(page, "keys-light")
            page = pages.open(admin, "members", scheme="dark")
            expect(page.get_by_role("table", name="Replication")).to_contain_text("replicate")
            take_picture(page, "members-dark")
