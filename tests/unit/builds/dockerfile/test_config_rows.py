"""The rows of the field's cases that end with a config, as BuildKit's front end gives it."""

import pytest

from tests.support.dockerfiles import as_docker, build

#: id, Dockerfile, config, build arguments, target.
Row = tuple[str, str, dict[str, object], dict[str, str], str]

ROWS: list[Row] = [
    ("d005", "FROM scratch\nENV K v1\\\\\nENV J v2\n", {"Env": ["K=v1\\", "J=v2"]}, {}, ""),
    ("d010", "#  ESCAPE = `\nFROM scratch\nENV X=a`\nb\n", {"Env": ["X=ab"]}, {}, ""),
    ("d011", "\ufeffFROM scratch\nENV A=1\n", {"Env": ["A=1"]}, {}, ""),
    (
        "d012",
        'FROM scratch\r\nENV A=one\r\nENV B=two \\\r\n  C=three\r\nCMD ["x"]\r\n',
        {"Env": ["A=one", "B=two", "C=three"], "Cmd": ["x"]},
        {},
        "",
    ),
    ("d013", 'from scratch\neNv A=1\nCmD ["x"]\n', {"Env": ["A=1"], "Cmd": ["x"]}, {}, ""),
    ("d017", "   FROM scratch\n\t ENV A=1\n", {"Env": ["A=1"]}, {}, ""),
    ("d018", 'FROM scratch\nCMD ["a", "b c"]\n', {"Cmd": ["a", "b c"]}, {}, ""),
    ("d019", "FROM scratch\nCMD ['a','b']\n", {"Cmd": ["/bin/sh", "-c", "['a','b']"]}, {}, ""),
    ("d021", 'FROM scratch\nCMD []\nENTRYPOINT ["e"]\n', {"Entrypoint": ["e"]}, {}, ""),
    ("d022", 'FROM scratch\nCMD ["x\\u0041\\t\\"q"]\n', {"Cmd": ['xA\t"q']}, {}, ""),
    (
        "d023",
        'FROM scratch\nENTRYPOINT ["sh"] # trailing\n',
        {"Entrypoint": ["/bin/sh", "-c", '["sh"] # trailing']},
        {},
        "",
    ),
    ("d024", 'FROM scratch\nCMD echo "$HOME"\n', {"Cmd": ["/bin/sh", "-c", 'echo "$HOME"']}, {}, ""),
    (
        "d025",
        'FROM scratch\nSHELL ["/bin/bash","-ec"]\nCMD run me\nENTRYPOINT go\n',
        {
            "Entrypoint": ["/bin/bash", "-ec", "go"],
            "Cmd": ["/bin/bash", "-ec", "run me"],
            "Shell": ["/bin/bash", "-ec"],
        },
        {},
        "",
    ),
    ("d027", 'FROM scratch AS b\nCMD ["c"]\nFROM b\nENTRYPOINT ["e"]\n', {"Entrypoint": ["e"]}, {}, ""),
    ("d028", 'FROM scratch\nCMD ["c"]\nENTRYPOINT ["e"]\n', {"Entrypoint": ["e"], "Cmd": ["c"]}, {}, ""),
    ("d029", 'FROM scratch\nCMD ["a"]\nCMD ["b"]\n', {"Cmd": ["b"]}, {}, ""),
    (
        "d030",
        'FROM scratch\nENV A b c  d\nENV X=1 Y="two words" Z=three\\ 3\n',
        {"Env": ["A=b c  d", "X=1", "Y=two words", "Z=three 3"]},
        {},
        "",
    ),
    ("d031", "FROM scratch\nENV A=1\nENV A=2 B=$A\nENV C=$A-$B\n", {"Env": ["A=2", "B=1", "C=2-1"]}, {}, ""),
    ("d034", "FROM scratch\nENV A=\nENV B=\"\"\nENV C ''\n", {"Env": ["A=", "B=", "C="]}, {}, ""),
    ("d035", 'FROM scratch\nENV A=\'$B\' B="$A" C=\\$A D="\\$A"\n', {"Env": ["A=$B", "B=", "C=$A", "D=$A"]}, {}, ""),
    ("d036", "FROM scratch\nENV A 1  \nENV B  leading\n", {"Env": ["A=1", "B=leading"]}, {}, ""),
    ("d037", 'FROM scratch\nENV A=x\\ny B="x\\ny"\n', {"Env": ["A=xny", "B=x\\ny"]}, {}, ""),
    (
        "d038",
        "FROM scratch\nENV abc=hello\nENV abc=bye def=$abc\nENV ghi=$abc\n",
        {"Env": ["abc=bye", "def=hello", "ghi=bye"]},
        {},
        "",
    ),
    (
        "d039",
        'FROM scratch\nLABEL a=b "c d"="e f" g=\'h i\'\nLABEL old style value\nLABEL multi="line1 \\\nline2"\n',
        {"Labels": {"a": "b", "c d": "e f", "g": "h i", "multi": "line1 line2", "old": "style value"}},
        {},
        "",
    ),
    (
        "d040",
        "FROM scratch\nENV V=9\nLABEL v=\"$V\" w='$V' x=\\$V\n",
        {"Env": ["V=9"], "Labels": {"v": "9", "w": "$V", "x": "$V"}},
        {},
        "",
    ),
    ("d041", "ARG T=latest\nFROM scratch AS s\nENV V=[$T]\n", {"Env": ["V=[]"]}, {}, ""),
    ("d042", "ARG T=latest\nFROM scratch\nARG T\nENV V=[$T]\n", {"Env": ["V=[latest]"]}, {}, ""),
    ("d043", "ARG T=latest\nFROM scratch\nARG T\nENV V=[$T]\n", {"Env": ["V=[x]"]}, {"T": "x"}, ""),
    ("d044", "ARG T=latest\nFROM scratch\nARG T=other\nENV V=[$T]\n", {"Env": ["V=[other]"]}, {}, ""),
    ("d045", "FROM scratch AS a\nARG Z=1\nENV A=$Z\nFROM scratch\nENV B=[$Z]\n", {"Env": ["B=[]"]}, {}, ""),
    ("d046", "FROM scratch\nENV B=[$Z]\nARG Z=1\nENV C=[$Z]\n", {"Env": ["B=[]", "C=[q]"]}, {"Z": "q"}, ""),
    ("d047", "FROM scratch\nARG A=1 B=$A C\nENV O=$A,$B,[$C]\n", {"Env": ["O=1,1,[]"]}, {}, ""),
    ("d048", "ARG B=sc\nFROM ${B}ratch\nENV X=1\n", {"Env": ["X=1"]}, {}, ""),
    ("d049", "FROM scratch\nARG V\nENV O=${V:-d1} P=${V-d2}\n", {"Env": ["O=d1", "P="]}, {"V": ""}, ""),
    ("d050", "FROM scratch\nARG V\nENV O=${V:-d1} P=${V-d2}\n", {"Env": ["O=d1", "P=d2"]}, {}, ""),
    ("d051", "ARG A=x\nARG B=${A}y\nFROM scratch\nARG B\nENV O=$B\n", {"Env": ["O=xy"]}, {}, ""),
    ("d053", "FROM scratch\nWORKDIR /a\nWORKDIR b\nWORKDIR c/../d\n", {"WorkingDir": "/a/b/d"}, {}, ""),
    ("d054", "FROM scratch\nENV D=/x\nWORKDIR $D/$U/y\n", {"Env": ["D=/x"], "WorkingDir": "/x/y"}, {}, ""),
    ("d055", "FROM scratch\nWORKDIR rel\n", {"WorkingDir": "/rel"}, {}, ""),
    ("d056", 'FROM scratch\nWORKDIR "/sp ace"\n', {"WorkingDir": "/sp ace"}, {}, ""),
    (
        "d057",
        "FROM scratch AS base\nWORKDIR /src\nFROM base AS c1\nWORKDIR c1\nFROM base\nWORKDIR c2\n",
        {"WorkingDir": "/src/c2"},
        {},
        "",
    ),
    (
        "d058",
        "FROM scratch\nEXPOSE 80 443/tcp 53/udp 7000-7002\n",
        {"ExposedPorts": {"443/tcp": {}, "53/udp": {}, "7000/tcp": {}, "7001/tcp": {}, "7002/tcp": {}, "80/tcp": {}}},
        {},
        "",
    ),
    (
        "d059",
        "FROM scratch\nENV P=90\nEXPOSE $P ${P}1/udp\n",
        {"ExposedPorts": {"90/tcp": {}, "901/udp": {}}, "Env": ["P=90"]},
        {},
        "",
    ),
    ("d061", "FROM scratch\nEXPOSE 80\nEXPOSE 80/tcp\n", {"ExposedPorts": {"80/tcp": {}}}, {}, ""),
    ("d063", "FROM scratch\nSTOPSIGNAL SIGRTMIN+3\n", {"StopSignal": "SIGRTMIN+3"}, {}, ""),
    ("d065", "FROM scratch\nENV S=SIGINT\nSTOPSIGNAL $S\n", {"Env": ["S=SIGINT"], "StopSignal": "SIGINT"}, {}, ""),
    ("d066", "FROM scratch\nUSER 1000:1000\n", {"User": "1000:1000"}, {}, ""),
    ("d067", "FROM scratch\nUSER nobody\n", {"User": "nobody"}, {}, ""),
    ("d068", "FROM scratch\nENV U=app\nUSER ${U}:$U\n", {"User": "app:app", "Env": ["U=app"]}, {}, ""),
    ("d069", "FROM scratch AS a\nUSER bob\nFROM scratch\nENV X=1\n", {"Env": ["X=1"]}, {}, ""),
    (
        "d070",
        'FROM scratch\nVOLUME /a /b\nVOLUME ["/c d", "/e"]\n',
        {"Volumes": {"/a": {}, "/b": {}, "/c d": {}, "/e": {}}},
        {},
        "",
    ),
    ("d071", 'FROM scratch\nVOLUME ["/a" "/b"]\n', {"Volumes": {"/b]": {}, "[/a": {}}}, {}, ""),
    ("d072", "FROM scratch\nENV D=/data\nVOLUME $D/x\n", {"Env": ["D=/data"], "Volumes": {"/data/x": {}}}, {}, ""),
    (
        "d074",
        "FROM scratch\nHEALTHCHECK --interval=5s --timeout=2s --start-period=1m --start-interval=1s --retries=4 "
        "CMD curl -f x || exit 1\n",
        {
            "Healthcheck": {
                "Test": ["CMD-SHELL", "curl -f x || exit 1"],
                "Interval": 5000000000,
                "Timeout": 2000000000,
                "StartPeriod": 60000000000,
                "StartInterval": 1000000000,
                "Retries": 4,
            }
        },
        {},
        "",
    ),
    (
        "d075",
        'FROM scratch\nHEALTHCHECK CMD ["/bin/x","y"]\n',
        {"Healthcheck": {"Test": ["CMD", "/bin/x", "y"]}},
        {},
        "",
    ),
    (
        "d076",
        "FROM scratch AS a\nHEALTHCHECK CMD x\nFROM a\nHEALTHCHECK NONE\n",
        {"Healthcheck": {"Test": ["NONE"]}},
        {},
        "",
    ),
    (
        "d079",
        "FROM scratch\nONBUILD RUN x\nONBUILD COPY . /app\nonbuild env A=1\n",
        {"OnBuild": ["RUN x", "COPY . /app", "env A=1"]},
        {},
        "",
    ),
    (
        "d082",
        "FROM scratch AS b\nONBUILD ENV A=1\nONBUILD WORKDIR /o\nFROM b AS c\nENV B=$A\nFROM c\nENV C=$A\n",
        {"Env": ["A=1", "B=1", "C=1"], "WorkingDir": "/o"},
        {},
        "",
    ),
    ("d083", "FROM scratch\nMAINTAINER some one\n", {}, {}, ""),
    ("d084", "FROM scratch AS Build\nENV A=1\nFROM build\nENV B=2\n", {"Env": ["A=1", "B=2"]}, {}, ""),
    ("d086", "FROM scratch AS a\nENV A=1\nFROM scratch AS b\nENV B=1\n", {"Env": ["A=1"]}, {}, "a"),
    ("d091", 'FROM scratch\nCOPY ["a b", "/c d/"]\n', {}, {}, ""),
]


@pytest.mark.parametrize(
    ("text", "expected", "build_args", "target"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_a_dockerfile_makes_the_config_that_buildkit_makes(
    text: str, expected: dict[str, object], build_args: dict[str, str], target: str
) -> None:
    found = build(text, target=target, build_args=build_args)
    assert as_docker(found.stages[-1].config) == expected
    assert found.stages[-1].index == found.target
