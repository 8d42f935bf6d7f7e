"""Metrics for Prometheus, made of the numbers that the parts count and measure themselves, when they are asked for.

docs: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from commands.measures import Histogram
from gateways.services import Services

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class EngineCollector(Collector):
    """One engine's metrics. Nothing is kept here, and nothing is counted twice."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterator[Metric]:
        yield from self._edges()
        yield from self._writer()
        yield from self._read_side()

    def _edges(self) -> Iterator[Metric]:
        counts, limits = self._services.counts, self._services.limits
        frames = {
            "send": counts.sends, "receipt": counts.receipts, "fetch": counts.fetches, "ping": counts.pings,
        }  # fmt: skip
        yield _counters("signet_frames", "Frames of devices that are logged in", "kind", frames)
        requests = CounterMetricFamily("signet_http_requests", "Requests by HTTP", labels=["operation", "status"])
        for (operation, status), count in sorted(counts.requests.items()):
            requests.add_metric([operation, str(status)], count)
        yield requests
        yield _counters("signet_refusals", "Refused frames and requests", "code", counts.refusals)
        yield _counters("signet_limits_met", "How often a limit was met", "limit", limits.met)
        yield _counters("signet_disconnects", "Connections that the server has closed", "code", counts.disconnects)
        yield _gauge("signet_connections", "Live connections", limits.connections)
        yield _gauge("signet_slow_readers", "Devices that read too slowly now", counts.slow)
        yield _counter("signet_slow_reads", "How often a device began to read too slowly", counts.slow_readers)
        yield _counter("signet_resyncs", "How often a device had missed pushes", counts.resyncs)
        yield _counter("signet_pushes", "Pushes, one for each device that one was for", self._services.hub.pushed)

    def _writer(self) -> Iterator[Metric]:
        writer = self._services.writer
        measures = writer.measures
        yield _gauge("signet_commands_waiting", "Commands without an answer", writer.unanswered)
        yield _gauge("signet_appends_open", "Streams with an append whose outcome is open", writer.open_appends)
        yield _counter("signet_events", "Events that were appended", measures.events)
        yield _histogram("signet_batch_commands", "Commands of a batch", measures.batch_commands)
        yield _histogram("signet_decide_seconds", "Deciding a batch", measures.decide_s)
        yield _histogram("signet_append_seconds", "Appending a batch, until the store's answer", measures.append_s)
        if self._services.commits is not None:
            yield _histogram("signet_commit_seconds", "Commits of the store, fsync included", self._services.commits)

    def _read_side(self) -> Iterator[Metric]:
        head, runners = self._services.feed.head, self._services.runners
        yield _gauge("signet_log_position", "The last event that the writer knows of", self._services.writer.position)
        yield _gauge("signet_feed_position", "The last event that was published", head)
        lag = max(0, self._services.writer.position - head)
        yield _gauge("signet_feed_lag", "Positions that the feed is behind the writer", lag)
        yield _gauges("signet_readmodel_position", "The last event in the rows", {
            name: runner.position for name, runner in runners.items()
        })  # fmt: skip
        yield _gauges("signet_readmodel_lag", "Positions that a read model is behind the feed", {
            name: head - runner.position for name, runner in runners.items()
        })  # fmt: skip
        yield _gauges("signet_readmodel_stopped", "1: it stands still", {
            name: runner.stopped is not None for name, runner in runners.items()
        })  # fmt: skip
        yield _gauges("signet_readmodel_parked", "Streams with events that it could not apply", {
            name: runner.parked for name, runner in runners.items()
        })  # fmt: skip
        sampler = self._services.sampler
        if sampler is not None:
            yield _counter("signet_readmodel_checks", "Answers that were compared with the log", sampler.checked)
            yield _gauges("signet_readmodel_drift", "Of these, those that were not what it says: 0", sampler.drift)


class Metrics:
    """What an operator's Prometheus asks for."""

    def __init__(self, services: Services) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(EngineCollector(services))
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        return generate_latest(self._registry)


def _counter(name: str, text: str, value: int) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _counters(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _gauges(name: str, text: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["model"])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    return HistogramMetricFamily(name, text, buckets=[*_cumulative(histogram)], sum_value=histogram.total)


def _cumulative(histogram: Histogram) -> Iterable[tuple[str, float]]:
    seen = 0
    for bound, count in zip([*map(str, histogram.bounds), "+Inf"], histogram.counts, strict=True):
        seen += count
        yield bound, seen
