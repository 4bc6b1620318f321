"""All that is said to people, in each language."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from dbt_orchestration.automation.telling.incidents import Incident, Kind


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
)

TEXTS: Mapping[str, Texts] = {"en": _EN, "ko": _KO}
