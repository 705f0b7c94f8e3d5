"""Every benchmark, in the order of the table in docs/explanation/measurements.md."""

from benchmarks.cases import (
    alias,
    alias_http,
    artifacts,
    artifacts_growth,
    artifacts_proxied,
    imports,
    lineage,
    lineage_coverage,
    lineage_scale,
    lineage_scripts,
    lineage_search,
    request,
    review_pages,
)

CASES = (
    *artifacts.CASES,
    *artifacts_proxied.CASES,
    *alias.CASES,
    *alias_http.CASES,
    request.CASE,
    imports.CASE,
    lineage.CASE,
    *lineage_scripts.CASES,
)
SURVEYS = (
    artifacts_growth.SURVEY,
    lineage_coverage.SURVEY,
    lineage_search.SURVEY,
    lineage_scale.SURVEY,
    review_pages.SURVEY,
)
