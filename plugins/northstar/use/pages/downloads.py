"""`/take/PANEL.csv` and `/take/PANEL.xlsx`: a panel's rows as a file, for what the page's own address chooses."""

from collections.abc import Callable

from flask import Flask, Response, request
from flask.typing import ResponseReturnValue

from northstar.base.allowance import Allowance
from northstar.base.errors import NorthstarError
from northstar.use.marts import Marts
from northstar.use.pages.choices import read_choice
from northstar.use.pages.spreadsheets import CSV, XLSX, write_csv, write_workbook
from northstar.use.pages.tables import read_table

# a workbook of the most rows takes some seconds of a processor
FILES_A_MINUTE = 60
TEXT = {"Content-Type": "text/plain; charset=utf-8"}


def add_downloads(server: Flask, marts: Callable[[], Marts]) -> None:
    """Let the server give out each panel as a file. marts: gives what is read."""
    allowance = Allowance(FILES_A_MINUTE)

    def take(panel: str, kind: str) -> ResponseReturnValue:
        if not allowance.take(request.remote_addr or ""):
            return Response("too many files in a minute", 429, {**TEXT, "Retry-After": "60"})
        try:
            choice = read_choice(marts(), panel.rpartition("-")[0], request.args)
            table = read_table(marts(), panel, choice)
        except NorthstarError as exc:
            return Response(str(exc), 404, TEXT)
        headers = {
            "Content-Disposition": f'attachment; filename="{table.file_name}.{kind}"',
            "Cache-Control": "no-store",
        }
        if kind == "csv":
            return Response(write_csv(table), 200, {**headers, "Content-Type": CSV})
        return Response(write_workbook(table), 200, {**headers, "Content-Type": XLSX})

    server.add_url_rule("/take/<panel>.csv", "take_csv", take, defaults={"kind": "csv"})
    server.add_url_rule("/take/<panel>.xlsx", "take_xlsx", take, defaults={"kind": "xlsx"})
