"""Every library that the capture knows, declared once; plain data, since the start loads it.

For each layer and each module that the user's program may import: what is observed in it. A row
names a function, the parameter that holds a path, and what is done with it. What a row cannot say
is a function of a module of this package: ``"hdf5.opens"``.
"""

from __future__ import annotations

from typing import NamedTuple

from mlflow_plugins_pack.lineage.capture.event import EITHER, READ, WRITE

LAYERS = ("audit", "wrap", "boto", "azure", "http", "sql", "mlflow", "spool")


class Call(NamedTuple):
    """One function of a library that reads or writes.

    Attributes:
        function: Its name in the module, such as ``File.__init__``.
        kind: `READ` when it begins, `WRITE` when it has ended, or `EITHER`, which shows later.
        parameter: Its parameter that holds a path or several; alternatives are split by ``|``.
        filesystem: Its parameter that holds the file system of the paths, or the options to get
            at it, if it has one.
        suffixes: Of the files that a folder stands for, only those that end so.
        at_start: Instead of ``kind``: the function that is given the arguments at the beginning.
        at_end: The function that is given what ``at_start`` returned, or else the arguments, at the
            end.
        native: The first parameters of a function that is not written in Python. Where a version
            of the library has it in Python, the row does not apply.
    """

    function: str
    kind: str = ""
    parameter: str = ""
    filesystem: str = ""
    suffixes: tuple[str, ...] = ()
    at_start: str = ""
    at_end: str = ""
    native: tuple[str, ...] = ()


class Install(NamedTuple):
    """A library with hooks of its own: the function that registers them, given the module."""

    function: str


def _reads(
    *names: str, parameter: str, filesystem: str = "", suffixes: tuple[str, ...] = ()
) -> tuple[Call, ...]:
    return tuple(Call(name, READ, parameter, filesystem, suffixes) for name in names)


def _writes(*names: str, parameter: str, filesystem: str = "") -> tuple[Call, ...]:
    return tuple(Call(name, WRITE, parameter, filesystem) for name in names)


def _duckdb(owner: str, receiver: tuple[str, ...]) -> tuple[Call, ...]:
    statements = ("execute", "executemany", "sql", "query", "from_query")
    readers = ("read_csv", "from_csv_auto", "read_json", "read_parquet", "from_parquet")
    return (
        *(
            Call(
                f"{owner}{name}",
                at_start="duckdb.statement_begins",
                at_end="duckdb.statement_ends",
                native=(*receiver, "query", "parameters"),
            )
            for name in statements
        ),
        *(Call(f"{owner}{name}", READ, "source", native=(*receiver, "source")) for name in readers),
    )


_PARQUET = (".parquet", ".pq", ".parq")
_POLARS_FRAMES = ("csv", "parquet", "ipc", "ipc_stream", "ndjson", "json", "avro", "excel")
_SAFETENSORS = (
    *_reads("load_file", "load_model", parameter="filename"),
    *_writes("save_file", "save_model", parameter="filename"),
)
_PYARROW_STREAMS = (
    *(("open_input_file", READ), ("open_input_stream", READ)),
    *(("open_output_stream", WRITE), ("open_append_stream", WRITE)),
)
_LXML_TYPES = ("DTD", "RelaxNG", "XInclude", "XMLSchema", "XSLT", "htmlfile", "xmlfile")
"""They open files in C, by a name that they are given or find in another document."""
_CV2_READERS = ("imread", "imreadmulti", "imreadanimation")
_CV2_WRITERS = ("imwrite", "imwritemulti", "imwriteanimation")
_HDF5_FILE = (Call("File.__init__", at_start="hdf5.opens", at_end="hdf5.wrote"),)
_SPAWN = Install("child_processes.prepare_children")

TABLE: dict[str, dict[str, tuple[Call, ...] | Install]] = {
    "wrap": {
        # Called by the native readers and writers of pyarrow's CSV, JSON, Feather, ORC, streams.
        "pyarrow.util": (Call("_stringify_path", EITHER, "path"),),
        "pyarrow": (
            Call(
                "memory_map",
                at_start="arrays.map_opens",
                at_end="arrays.map_wrote",
                native=("path", "mode"),
            ),
            Call("create_memory_map", WRITE, "path", native=("path",)),
            Call("OSFile"),
        ),
        "pyarrow.parquet.core": (
            Call("ParquetDataset.__init__", READ, "path_or_paths", "filesystem"),
            Call("ParquetFile.__init__", READ, "source", "filesystem"),
            Call("ParquetWriter.__init__", WRITE, "where", "filesystem"),
        ),
        "pyarrow.dataset": (
            Call("dataset", READ, "source", "filesystem"),
            Call("write_dataset", WRITE, "base_dir", "filesystem"),
        ),
        "pyarrow.orc": (
            Call("ORCFile.__init__", READ, "source"),
            Call("read_table", READ, "source", "filesystem"),
            Call("ORCWriter.__init__", WRITE, "where"),
        ),
        "pyarrow._fs": (
            *(
                Call(f"FileSystem.{name}", kind, "path", "self", native=("self", "path"))
                for name, kind in _PYARROW_STREAMS
            ),
            Call(
                "FileSystem.copy_file",
                at_start="arrays.copy_begins",
                at_end="arrays.copied",
                native=("self", "src", "dest"),
            ),
        ),
        "pyarrow.fs": (
            Call("copy_files", READ, "source", "source_filesystem"),
            Call("copy_files", WRITE, "destination", "destination_filesystem"),
        ),
        # pandas opens the file in C++ and gives pyarrow no name.
        "pandas.io.parquet": (Call("to_parquet", WRITE, "path", "filesystem"),),
        "polars": (
            *_reads(
                *("read_parquet", "scan_parquet"),
                parameter="source",
                filesystem="storage_options",
                suffixes=_PARQUET,
            ),
            *_reads(
                *(
                    f"{verb}_{kind}"
                    for kind in ("csv", "ipc", "ndjson", "lines")
                    for verb in ("read", "scan")
                ),
                *(f"read_{kind}" for kind in ("json", "avro", "excel", "ods", "ipc_stream")),
                parameter="source",
                filesystem="storage_options",
            ),
            *_writes(
                *(f"DataFrame.write_{kind}" for kind in _POLARS_FRAMES),
                *(f"LazyFrame.sink_{kind}" for kind in _POLARS_FRAMES),
                parameter="file|path|workbook",
                filesystem="storage_options",
            ),
        ),
        "duckdb._relation": (
            Call("sql", at_start="duckdb.statement_begins", at_end="duckdb.statement_ends"),
            *_reads("read_csv", "read_json", "read_parquet", parameter="path_or_buffer"),
            *_writes(
                "DuckDBPyRelation.write_csv",
                "DuckDBPyRelation.write_parquet",
                "DuckDBPyRelation.to_csv",
                "DuckDBPyRelation.to_parquet",
                parameter="file_name",
            ),
        ),
        # Native, as far as the version does not have them in Python.
        "duckdb": (
            *_duckdb("", ()),
            *_duckdb("DuckDBPyConnection.", ("self",)),
            *(
                Call(f"DuckDBPyRelation.{name}", WRITE, "file_name", native=("self", "file_name"))
                for name in ("write_csv", "to_csv", "write_parquet", "to_parquet")
            ),
            Call(
                "connect",
                at_start="duckdb.connects",
                at_end="duckdb.connected",
                native=("database",),
            ),
        ),
        "h5py": (*_HDF5_FILE, Call("Dataset.__init__", at_start="hdf5.dataset_opened")),
        "tables.file": _HDF5_FILE,
        "cv2": (
            *(Call(name, READ, "filename", native=("filename",)) for name in _CV2_READERS),
            *(Call(name, WRITE, "filename", native=("filename",)) for name in _CV2_WRITERS),
            *(Call(name) for name in ("VideoCapture", "VideoWriter", "FileStorage")),
        ),
        "lxml.etree": (
            Call("parse", READ, "source", native=("source",)),
            Call("_ElementTree.parse", READ, "source", native=("self", "source")),
            *(
                Call(f"_ElementTree.{name}", WRITE, "file", native=("self", "file"))
                for name in ("write", "write_c14n")
            ),
            *map(Call, _LXML_TYPES),
        ),
        "tokenizers": (
            Call("Tokenizer.from_file", READ, "path", native=("path",)),
            Call("Tokenizer.train", READ, "files", native=("self", "files")),
            Call("Tokenizer.save", WRITE, "path", native=("self", "path")),
        ),
        "safetensors": (Call("safe_open"),),
        "safetensors.numpy": _SAFETENSORS,
        "safetensors.torch": _SAFETENSORS,
        "torch": (Call("from_file", READ, "filename", native=("filename",)),),
        # Called by safetensors' `safe_open`, too.
        "torch.storage": (
            Call("UntypedStorage.from_file", READ, "filename", native=("filename",)),
        ),
        # `load` with mmap=True and `save` open the file in C++, and so do all of `jit`.
        "torch.serialization": (Call("load", READ, "f"), Call("save", WRITE, "f")),
        "torch.jit._serialization": (Call("load", READ, "f"), Call("save", WRITE, "f")),
        "torch.jit._script": (Call("RecursiveScriptModule.save", WRITE, "f"),),
        "torchvision.io.image": (
            Call("read_file", READ, "path"),
            *_writes("write_file", "write_jpeg", "write_png", parameter="filename"),
        ),
        "scipy.io._fast_matrix_market": (
            *_reads("mmread", parameter="source"),
            *_writes("mmwrite", parameter="target"),
        ),
        "xgboost.core": (
            Call("DMatrix.__init__", at_start="arrays.xgboost_matrix"),
            Call("Booster.__init__", READ, "model_file"),
            Call("Booster.load_model", READ, "fname"),
            Call("Booster.save_model", WRITE, "fname"),
        ),
        "lightgbm.basic": (
            Call("Dataset.__init__", READ, "data"),
            Call("Booster.__init__", READ, "model_file"),
            Call("Booster.save_model", WRITE, "filename"),
            Call("Dataset.save_binary", WRITE, "filename"),
        ),
        "deltalake.table": (Call("DeltaTable.__init__", at_end="arrays.delta_opened"),),
        "deltalake.writer.writer": (
            Call("write_deltalake", at_start="arrays.delta_writes", at_end="arrays.delta_wrote"),
        ),
        "datasets.builder": (Call("DatasetBuilder.as_dataset", at_start="arrays.hub_dataset"),),
        "datasets.arrow_dataset": _reads("Dataset.from_file", parameter="filename"),
        "datasets.load": _reads("load_from_disk", parameter="dataset_path", suffixes=(".arrow",)),
    },
    "boto": {"botocore.session": Install("s3.register")},
    "azure": {
        "azure.storage.blob._shared.response_handlers": (
            Call("return_response_headers", at_start="azure.uploaded"),
        ),
        "azure.storage.blob._deserialize": (
            Call("deserialize_blob_stream", at_end="azure.downloaded"),
        ),
    },
    "http": {
        "requests.hooks": (Call("dispatch_hook", at_start="http.requests_answered"),),
        "urllib.request": (
            Call("HTTPErrorProcessor.http_response", at_start="http.urllib_answered"),
        ),
        "httpx._models": (Call("Cookies.extract_cookies", at_start="http.httpx_answered"),),
        "aiohttp.client_reqrep": (Call("ClientResponse.start", at_end="http.aiohttp_answered"),),
    },
    "sql": {"sqlalchemy": Install("sql.listen")},
    "mlflow": {
        "mlflow.store.artifact.runs_artifact_repo": (
            Call("RunsArtifactRepository.download_artifacts", at_end="mlflow.run_fetched"),
        ),
        "mlflow.store.artifact.models_artifact_repo": (
            Call("ModelsArtifactRepository.download_artifacts", at_end="mlflow.model_fetched"),
        ),
        "mlflow.tracking.client": (
            Call("MlflowClient.download_artifacts", at_end="mlflow.client_fetched"),
            Call(
                "MlflowClient.create_run",
                at_start="mlflow.client_creates_run",
                at_end="mlflow.client_created_run",
            ),
            Call("MlflowClient.set_terminated", at_start="mlflow.client_ends_run"),
        ),
        "mlflow.entities.run": (Call("Run.__init__", at_start="mlflow.run_made"),),
        "mlflow.tracking._model_registry.client": (
            Call("ModelRegistryClient.create_model_version", at_end="mlflow.version_created"),
        ),
    },
    "spool": {
        "multiprocessing.spawn": _SPAWN,
        "joblib.externals.loky.backend.spawn": _SPAWN,
        "loky.backend.spawn": _SPAWN,
    },
}

SEEN_INTO = tuple(dict.fromkeys(name.partition(".")[0] for name in TABLE["wrap"]))
"""Libraries that open files in native code and that the layer `wrap` covers."""

NOT_SEEN_INTO = (
    # Drivers of databases and queues; through SQLAlchemy, the layer `sql` sees their statements.
    *("MySQLdb", "adbc_driver_manager", "aiomysql", "asyncpg", "cassandra", "clickhouse_connect"),
    *("clickhouse_driver", "confluent_kafka", "connectorx", "cx_Oracle", "databricks.sql"),
    *("elasticsearch", "google.cloud.bigquery", "kafka", "mysql.connector", "neo4j", "oracledb"),
    *(
        "psycopg",
        "psycopg2",
        "pymongo",
        "pymssql",
        "pymysql",
        "pyodbc",
        "redis",
        "redshift_connector",
    ),
    *("snowflake.connector", "trino"),
    # Engines that read in processes of their own, or in native code.
    *("chdb", "cudf", "daft", "distributed", "lancedb", "pyspark", "ray", "tiledb"),
    # Libraries that open files in native code.
    *("SimpleITK", "av", "catboost", "cyvcf2", "datatable", "dbm.gnu", "dbm.ndbm", "decord"),
    *("faiss", "fasttext", "fiona", "hnswlib", "itk", "jpype", "lance", "lmdb"),
    *("netCDF4", "onnxruntime", "open3d", "openslide", "osgeo", "plyvel"),
    *("pyBigWig", "pyogrio", "pyreadr", "pyreadstat", "pysam", "python_calamine", "pyvips"),
    *("rasterio", "rdkit", "rocksdict", "rpy2", "sentencepiece", "soundfile", "tensorflow"),
    *("tensorstore", "tokenizers", "torchaudio", "torchcodec", "turbodbc", "vtk"),
)
"""Libraries that read data where no layer looks."""
