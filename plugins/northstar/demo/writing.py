"""Write tables as source files, in the mix of formats that real deliveries have."""

import gzip
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

FORMATS = {
    "events": "parquet",
    "messages": "parquet",
    "tickets": "jsonl",
    "ticket_events": "jsonl.gz",
    "charges": "csv.gz",
}
ROWS_PER_FILE = 500_000


def write_entity(folder: Path, entity: str, table: pd.DataFrame, name: str | None = None) -> None:
    """Write `table` below `folder` (made if need be), in files named after the entity or `name`; the same table gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    form = FORMATS.get(entity, "csv")
    for number, start in enumerate(range(0, max(len(table), 1), ROWS_PER_FILE)):
        part, path = table.iloc[start : start + ROWS_PER_FILE], folder / f"{name or entity}_{number:03d}.{form}"
        if form == "parquet":
            frame = pa.Table.from_pandas(part.reset_index(drop=True), preserve_index=False).replace_schema_metadata(
                None
            )
            pq.write_table(frame, path, compression="zstd")
            continue
        text = _text(part)
        if form.startswith("csv"):
            content = text.to_csv(index=False, lineterminator="\n")
        else:
            content = text.to_json(orient="records", lines=True, date_format="iso", force_ascii=False)
        data = content.encode()
        path.write_bytes(gzip.compress(data, mtime=0) if form.endswith("gz") else data)


def _text(part: pd.DataFrame) -> pd.DataFrame:
    part = part.copy()
    for name in part.columns:
        if isinstance(part[name].dtype, pd.DatetimeTZDtype):
            moments = part[name].dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            part[name] = moments.where(part[name].notna(), None).astype(object)
    return part
