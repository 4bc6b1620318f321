"""All that is said to people, in each language: in messages, and on the morning page."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from dbt_orchestration.automation.telling.incidents import Incident, Kind


@dataclass(frozen=True)
class PageTexts:
    """The texts of the morning page.

    Attributes:
        headings: of its parts, in their order.
        builds: what is said of the daily build, by how it went.
        columns: of tables.
        causes: what made Dagster start runs.
    """

    headings: Mapping[str, str]
    builds: Mapping[str, str]
    columns: Mapping[str, str]
    causes: Mapping[str, str]
    commit: str
    no_build: str
    nothing: str
    tried: str
    not_due: str
    slowest: str
    grown: str
    compared: str
    flaps: str
    warns: str
    orphans: str
    cost: str
    credits: str
    dearest: str


@dataclass(frozen=True)
class Texts:
    """The texts of a language.

    Attributes:
        wrong: what is said of an incident, by kind.
        over: what is said when it is over.
        types: what dbt calls what can fail.
    """

    wrong: Mapping[Kind, str]
    over: Mapping[Kind, str]
    types: Mapping[str, str]
    again: str
    gone: str
    more: str
    changed_by: str
    written_by: str
    run: str
    asset: str
    commit: str
    trial: str
    page: PageTexts

    def title(self, incident: Incident, *, again: bool = False) -> str:
        """What is wrong, or over, in one line."""
        said = (self.over if incident.ended else self.wrong)[incident.kind]
        facts = defaultdict(str, incident.facts)
        facts["type"] = self.types.get(facts["type"], facts["type"])
        text = " ".join((self.gone if facts["gone"] else said).format_map(facts).split())
        return self.again.format(text=text) if again else text


_EN = Texts(
    wrong={
        Kind.COMMIT_BROKEN: "{branch} at {sha} cannot be built",
        Kind.BUILD_FAILED: "the daily build failed",
        Kind.BUILD_NOT_STARTED: "the daily build of {time} has not started",
        Kind.BUILD_LATE: "the daily build of {time} has not ended yet",
        Kind.PUSH_FAILED: "the build of a push failed",
        Kind.MODEL_FAILED: "{type} {what} failed",
        Kind.TEST_FAILED: "{type} {what} on {model} failed, failing rows: {rows}",
        Kind.NOT_FRESH: "{type} {what} is out of date",
        Kind.HISTORY_WAITS: "the rebuild of {what} waits for you (partitions: {partitions}):"
        " launch the job {job}",
        Kind.HELD: "it is held at {sha} by {who} since {time}: {reason}. The job {job} releases it",
        Kind.PAUSED: "no push and no schedule starts anything: paused by {who} since {time}:"
        " {reason}. The job {job} lets it go on",
    },
    over={
        Kind.COMMIT_BROKEN: "{branch} can be built again",
        Kind.BUILD_FAILED: "the daily build succeeded",
        Kind.BUILD_NOT_STARTED: "the daily build of {time} has started",
        Kind.BUILD_LATE: "the daily build of {time} has ended",
        Kind.PUSH_FAILED: "pushes are built again",
        Kind.MODEL_FAILED: "{type} {what} works again",
        Kind.TEST_FAILED: "{type} {what} on {model} passes again",
        Kind.NOT_FRESH: "{type} {what} is up to date again",
        Kind.HISTORY_WAITS: "no rebuild of {what} waits any more",
        Kind.HELD: "it follows its branch again",
        Kind.PAUSED: "pushes and schedules start runs again",
    },
    types={
        **{name: name for name in ("model", "seed", "snapshot", "test")},
        "unit_test": "unit test",
    },
    again="again: {text}",
    gone="{type} {what} is not in the project any more",
    more="and {count} more",
    changed_by="Changed last by {author}: {subject}",
    written_by="By {author}: {subject}",
    run="Run",
    asset="Asset",
    commit="Commit",
    trial="This is a test of `dbt-orchestration notify --test`: nothing is wrong.",
    page=PageTexts(
        headings={
            "failed": "Failed",
            "late": "Late",
            "waits": "Waits for you",
            "pushes": "Pushes of the last day",
            "models": "Models",
            "tests": "Tests that nobody can rely on",
            "orphans": "Relations without a model",
            "cost": "Cost of the last 7 days",
        },
        builds={
            "succeeded": "The daily build of {time} succeeded in {took}.",
            "failed": "The daily build of {time} failed after {took}.",
            "canceled": "The daily build of {time} was stopped after {took}.",
            "running": "The daily build of {time} has been running for {took}.",
        },
        columns={
            "author": "Author",
            "before": "Before",
            "built": "Built",
            "commit": "Commit",
            "credits": "Credits",
            "grown": "Grown by",
            "left_alone": "Left alone",
            "model": "Model",
            "rows": "Rows",
            "runs": "Runs",
            "saved": "Saved",
            "took": "Took",
            "why": "What for",
        },
        causes={
            "push": "push",
            "daily": "daily build",
            "schedule": "other schedule",
            "hand": "by hand",
        },
        commit="Commit {commit} by {author}.",
        no_build="There was no daily build in the last 7 days.",
        nothing="Nothing.",
        tried="what failed was tried already, and is not built again by itself: re-execute its run"
        " from asset failure, or push a remedy",
        not_due="nothing was due",
        slowest="The slowest:",
        grown="The fastest growing tables:",
        compared="Before: the daily build of {time}.",
        flaps="{name} on {asset} fails and passes by turns: it failed {bad} of the last {times}"
        " times",
        warns="{name} on {asset} warned each of the last {times} times",
        orphans="Dagster built these, and the commit has no such model. The job {job} says who"
        " reads them, and drops them:",
        cost="How long runs took.",
        credits="How long runs took, and what Snowflake says that their queries cost. It says so"
        " 8 hours later.",
        dearest="The dearest models, with their tests:",
    ),
)

_KO = Texts(
    wrong={
        Kind.COMMIT_BROKEN: "{branch} {sha} 커밋을 빌드할 수 없습니다",
        Kind.BUILD_FAILED: "일일 빌드가 실패했습니다",
        Kind.BUILD_NOT_STARTED: "{time} 일일 빌드가 시작되지 않았습니다",
        Kind.BUILD_LATE: "{time} 일일 빌드가 아직 끝나지 않았습니다",
        Kind.PUSH_FAILED: "푸시 빌드가 실패했습니다",
        Kind.MODEL_FAILED: "{type} 실패: {what}",
        Kind.TEST_FAILED: "{type} 실패: {model}의 {what}, 실패한 행 {rows}개",
        Kind.NOT_FRESH: "{type} 데이터가 오래되었습니다: {what}",
        Kind.HISTORY_WAITS: "{what}의 과거 재구축이 클릭을 기다립니다(파티션 {partitions}개):"
        " {job} 작업을 실행하세요",
        Kind.HELD: "{sha} 커밋에 고정되어 있습니다({time}부터, {who}): {reason}. {job} 작업으로"
        " 해제합니다",
        Kind.PAUSED: "일시 중지되어 푸시와 스케줄이 아무것도 시작하지 않습니다({time}부터, {who}):"
        " {reason}. {job} 작업으로 다시 시작합니다",
    },
    over={
        Kind.COMMIT_BROKEN: "{branch} 커밋을 다시 빌드할 수 있습니다",
        Kind.BUILD_FAILED: "일일 빌드가 성공했습니다",
        Kind.BUILD_NOT_STARTED: "{time} 일일 빌드가 시작되었습니다",
        Kind.BUILD_LATE: "{time} 일일 빌드가 끝났습니다",
        Kind.PUSH_FAILED: "푸시가 다시 빌드됩니다",
        Kind.MODEL_FAILED: "{type} 복구: {what}",
        Kind.TEST_FAILED: "{type} 다시 통과: {model}의 {what}",
        Kind.NOT_FRESH: "{type} 데이터가 다시 최신입니다: {what}",
        Kind.HISTORY_WAITS: "{what}: 기다리는 과거 재구축이 없습니다",
        Kind.HELD: "다시 브랜치를 따라갑니다",
        Kind.PAUSED: "푸시와 스케줄이 다시 실행을 시작합니다",
    },
    types={
        "model": "모델",
        "seed": "시드",
        "snapshot": "스냅샷",
        "test": "테스트",
        "unit_test": "단위 테스트",
    },
    again="다시: {text}",
    gone="{type} {what}: 프로젝트에서 없어졌습니다",
    more="그 밖에 {count}건",
    changed_by="마지막 변경: {author}, {subject}",
    written_by="작성자: {author}, {subject}",
    run="실행",
    asset="자산",
    commit="커밋",
    trial="`dbt-orchestration notify --test`가 보낸 시험 메시지입니다. 문제는 없습니다.",
    page=PageTexts(
        headings={
            "failed": "실패",
            "late": "지연",
            "waits": "사람을 기다리는 일",
            "pushes": "지난 하루의 푸시",
            "models": "모델",
            "tests": "믿을 수 없는 테스트",
            "orphans": "모델이 없는 테이블과 뷰",
            "cost": "지난 7일의 비용",
        },
        builds={
            "succeeded": "{time} 일일 빌드가 {took} 만에 성공했습니다.",
            "failed": "{time} 일일 빌드가 {took} 후 실패했습니다.",
            "canceled": "{time} 일일 빌드가 {took} 후 중지되었습니다.",
            "running": "{time} 일일 빌드가 {took} 동안 실행되고 있습니다.",
        },
        columns={
            "author": "작성자",
            "before": "이전",
            "built": "빌드",
            "commit": "커밋",
            "credits": "크레딧",
            "grown": "증가",
            "left_alone": "그대로 둠",
            "model": "모델",
            "rows": "행",
            "runs": "실행",
            "saved": "절약",
            "took": "걸린 시간",
            "why": "이유",
        },
        causes={
            "push": "푸시",
            "daily": "일일 빌드",
            "schedule": "다른 일정",
            "hand": "수동",
        },
        commit="{author}의 커밋 {commit}.",
        no_build="지난 7일 동안 일일 빌드가 없었습니다.",
        nothing="없음.",
        tried="실패한 것은 이미 시도했으므로 저절로 다시 빌드되지 않습니다: 그 실행을 실패한"
        " 자산부터 다시 실행하거나 수정한 커밋을 푸시하세요",
        not_due="빌드할 것이 없음",
        slowest="가장 느린 모델:",
        grown="가장 빨리 커지는 테이블:",
        compared="이전: {time} 일일 빌드.",
        flaps="{asset}의 {name} 테스트가 실패와 통과를 되풀이합니다: 최근 {times}번 중"
        " {bad}번 실패",
        warns="{asset}의 {name} 테스트가 최근 {times}번 모두 경고했습니다",
        orphans="Dagster가 만들었지만 커밋에 그런 모델이 없습니다. {job} 작업이 누가 읽는지 알려"
        " 주고 삭제합니다:",
        cost="실행에 걸린 시간.",
        credits="실행에 걸린 시간과 Snowflake가 알려 준 쿼리 비용. Snowflake는 8시간 뒤에"
        " 알려 줍니다.",
        dearest="가장 비싼 모델(테스트 포함):",
    ),
)

TEXTS: Mapping[str, Texts] = {"en": _EN, "ko": _KO}
