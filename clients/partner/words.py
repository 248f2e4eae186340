"""What `fedscore partner check` says, in English and Chinese: plain words, shares and dates, never a value or an id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class Term:
    """Words by their key, with what is told in them: numbers, dates, names of files and columns, other terms."""

    key: str
    told: Mapping[str, object] = field(default_factory=dict)

    def text(self, language: str) -> str:
        """The words."""
        told = {k: v.text(language) if isinstance(v, Term) else v for k, v in self.told.items()}
        return TEXTS[self.key][LANGUAGES.index(language)].format(**told)


@dataclass(frozen=True)
class Finding:
    """One line of an examination; `ok` is None where something is only worth knowing."""

    ok: bool | None
    key: str
    told: Mapping[str, object] = field(default_factory=dict)

    def text(self, language: str) -> str:
        """The line in words."""
        return Term(self.key, self.told).text(language)

    def mark(self, language: str) -> str:
        """How it stands, in one word."""
        return MARKS[self.ok][LANGUAGES.index(language)]


MARKS: Mapping[bool | None, tuple[str, str]] = {
    True: ("ok  ", "通过"),
    False: ("FAIL", "不行"),
    None: ("note", "留意"),
}
TEXTS: Mapping[str, tuple[str, str]] = {
    "sections.data": ("data", "数据"),
    "sections.machine": ("this machine", "本机"),
    "sections.federation": ("federation", "联邦"),
    "result.fails": (
        "to mend: {count}, marked FAIL; start the node when it is done",
        "有 {count} 处要改（标“不行”的）；改好再启动节点",
    ),
    "result.good": ("nothing to mend", "没有要改的"),
    "file.rows": ("{file}: {rows:,} rows, one a person", "{file}：{rows:,} 行，每人一行"),
    "file.bad": ("{error}", "文件不能用：{error}"),
    "file.few": (
        "{file}: {rows:,} rows are fewer than min-cohort = {least:,} in node.toml: this node would take no part",
        "{file}：只有 {rows:,} 行，少于 node.toml 里的 min-cohort = {least:,}，本节点不会参加",
    ),
    "file.twins": (
        "{file}: {error}",
        "{file}：按契约的写法，有的行是同一个人：{error}",
    ),
    "file.hollow": (
        "{file}: {share} of the rows have no value in any feature: a person without data is better left out",
        "{file}：{share} 的行没有任何特征值；没有数据的人最好不要放进来",
    ),
    "file.ignored": (
        "{file}: {count} columns are not in the contract and are ignored",
        "{file}：有 {count} 列不在契约里，会被忽略",
    ),
    "column.absent": (
        "{name}: the contract names this column, the file has none of that name{near}",
        "{name}：契约里有这一列，文件里没有{near}",
    ),
    "column.near": (" (did you mean {name}?)", "（是不是 {name}？）"),
    "nothing": ("", ""),
    "column.empty": ("{name}: every value is missing", "{name}：全部是缺失值"),
    "column.missing": ("{name}: {share} of the values are missing", "{name}：{share} 的值缺失"),
    "column.constant": (
        "{name}: all values that are there are one and the same, so it tells nobody apart",
        "{name}：有值的都一样，区分不了任何人",
    ),
    "column.heap": (
        "{name}: {share} of the values fall into one bin of the contract",
        "{name}：{share} 的值落在契约的同一个分箱里",
    ),
    "column.outside": (
        "{name}: {share} of the values are outside the contract's range [{low:g}, {high:g}] and are clamped: "
        "another unit, or the contract needs a next version",
        "{name}：{share} 的值超出契约范围 [{low:g}, {high:g}]，会被截断：单位不同，或者契约要出新版",
    ),
    "column.unread": (
        "{name}: {share} of the values are not numbers and count as missing",
        "{name}：{share} 的值不是数字，按缺失处理",
    ),
    "column.unknown": (
        "{name}: {share} of the values, {count} different ones, are not in the contract's list and count as `other`",
        "{name}：{share} 的值（{count} 种）不在契约的列表里，按 other 处理",
    ),
    "column.moved": (
        "{name}: its bins moved since {day} (stability index {index:.2f}; above 0.25 is much)",
        "{name}：和 {day} 相比，分箱分布变了（稳定性指数 {index:.2f}，大于 0.25 算很大）",
    ),
    "cohort.covered": (
        "{share} of the persons that were aligned last have a row here",
        "最近一次对齐的人中，{share} 在本方有数据",
    ),
    "columns.good": ("{good} of {count} columns keep to the contract", "{count} 列中有 {good} 列符合契约"),
    "columns.none": ("this holder has no features of its own", "本方没有自己的特征"),
    "profile.kept": (
        "the bins' shares are kept in {file}: the next check compares with them",
        "分箱占比已存到 {file}，下次检查会和它比较",
    ),
    "dates.fresh": ("{name}: the newest row is of {day}, {age} days ago", "{name}：最新一行是 {day}，{age} 天前"),
    "dates.old": (
        "{name}: the newest row is of {day}, {age} days ago; max-age-days is {most}",
        "{name}：最新一行是 {day}，{age} 天前；max-age-days 是 {most}",
    ),
    "dates.future": (
        "{name}: {share} of the dates are in the future",
        "{name}：{share} 的日期在将来",
    ),
    "dates.unread": (
        "{name}: {share} of the values are no dates like 2026-01-31",
        "{name}：{share} 的值不是 2026-01-31 这样的日期",
    ),
    "dates.absent": (
        "{name}: [check] date names this column, the file has none of that name",
        "{name}：[check] date 写了这一列，文件里没有",
    ),
    "dates.file": ("{file}: written {age} days ago", "{file}：{age} 天前写的"),
    "dates.oldfile": (
        "{file}: written {age} days ago; max-age-days is {most}",
        "{file}：{age} 天前写的；max-age-days 是 {most}",
    ),
    "contract.same": (
        "the contract is the one that request.json told ({digest}…)",
        "契约和 request.json 里的一致（{digest}…）",
    ),
    "contract.other": (
        "the contract is no longer the one that request.json told: `fedscore partner renew`, and send it again",
        "契约和 request.json 里的不一致：运行 `fedscore partner renew`，再发一次",
    ),
    "keys.open": ("{file}: others on this machine can read it: chmod 600", "{file}：本机其他人能读到：请 chmod 600"),
    "keys.good": ("keys: for their owner's eyes only", "密钥：只有属主能读"),
    "keys.other": (
        "keys: not those that request.json told: put the old ones back, or `fedscore partner renew` and enrol anew",
        "密钥：和 request.json 里的不一致：放回原来的密钥，或 `fedscore partner renew` 后重新登记",
    ),
    "disk.good": ("disk: {free:,} MiB free", "磁盘：还有 {free:,} MiB"),
    "disk.full": (
        "disk: {free:,} MiB free, min-free-disk is {least:,}: no order would be taken",
        "磁盘：只剩 {free:,} MiB，min-free-disk 是 {least:,}：不会接受任何任务",
    ),
    "port.free": ("port {port} of 127.0.0.1 is free", "127.0.0.1 的端口 {port} 可用"),
    "port.any": ("port: any free one", "端口：任意空闲端口"),
    "port.own": ("port: the node runs", "端口：节点在运行"),
    "port.taken": (
        "port {port} of 127.0.0.1 is taken: set another one, or 0, as [link] port in node.toml",
        "127.0.0.1 的端口 {port} 被占用：在 node.toml 的 [link] port 换一个，或写 0",
    ),
    "ledger.none": ("ledger: not there yet, nothing is spent", "账本：还没有，什么都没花"),
    "ledger.good": (
        "ledger: sound; epsilon {own} of own lines and {all} of all {total:g} spent; "
        "{left:.3f} remains as one Gaussian release",
        "账本：完好；自己的部分花了 epsilon {own}，合计 {all}（共 {total:g}）；还够一次 epsilon {left:.3f} 的高斯发布",
    ),
    "ledger.spent": (
        "ledger: {all} of epsilon {total:g} is spent: no further run can be paid for",
        "账本：epsilon {total:g} 已花掉 {all}，付不起下一次运行",
    ),
    "ledger.bad": ("ledger: {error}", "账本：{error}"),
    "joined.none": (
        "joined no federation yet: send request.json, then `fedscore partner join`",
        "还没有加入联邦：先发 request.json，再 `fedscore partner join`",
    ),
    "joined.good": ("joined {name} by welcome {number}", "已加入 {name}，欢迎文件第 {number} 号"),
    "bundle.good": ("{count} bundles may run here, {digest}… among them", "允许 {count} 个程序包，其中有 {digest}…"),
    "bundle.missing": (
        "bundle {digest}… of the welcome may not run here: `fedscore partner allow`",
        "欢迎文件里的程序包 {digest}… 还不允许运行：`fedscore partner allow`",
    ),
    "link.good": ("{address} answers over TLS in {ms:.0f} ms", "{address} 通过 TLS 应答，{ms:.0f} 毫秒"),
    "link.name": (
        "{host}: no such name: mend [link] superlink in node.toml, or ask the coordinator",
        "{host}：没有这个名字：改 node.toml 的 [link] superlink，或问协调方",
    ),
    "link.refused": (
        "{address}: nobody listens there: is the coordinator up, and is the port right?",
        "{address}：没有人在听：协调方启动了吗，端口对吗？",
    ),
    "link.silent": (
        "{address}: no answer within {seconds:g} s: is a firewall in between?",
        "{address}：{seconds:g} 秒内没有应答：中间有防火墙吗？",
    ),
    "link.notls": (
        "{address}: whatever answers there does not speak TLS ({error})",
        "{address}：那里应答的不是 TLS（{error}）",
    ),
    "link.odd": (
        "{address}: answers over TLS, but not like a coordinator (status {status})",
        "{address}：TLS 通了，但不像协调方（状态 {status}）",
    ),
    "link.failed": ("{address}: cannot be reached ({error})", "{address}：连不上（{error}）"),
    "tls.wrong": (
        "{address}: its certificate is not signed by the authority of the welcome: somebody is in between, "
        "or the coordinator has new certificates: ask for its newest welcome",
        "{address}：证书不是欢迎文件里的机构签的：有人在中间，或协调方换了证书：请要最新的欢迎文件",
    ),
    "tls.expired": (
        "{address}: its certificate has expired: the coordinator must renew it",
        "{address}：证书已过期：请协调方更新",
    ),
    "tls.early": ("{address}: its certificate does not hold yet", "{address}：证书还没有生效"),
    "tls.host": (
        "{address}: its certificate is for another name: use the name that the coordinator told",
        "{address}：证书是给别的名字的：请用协调方告诉的名字",
    ),
    "tls.other": ("{address}: its certificate does not hold ({error})", "{address}：证书不成立（{error}）"),
    "cert.good": ("{what} holds until {day}, {days} days", "{what} 到 {day} 有效，还有 {days} 天"),
    "cert.soon": ("{what} holds for {days} days only, until {day}", "{what} 只剩 {days} 天，到 {day}"),
    "cert.over": (
        "{what} expired on {day}: ask the coordinator for a new welcome",
        "{what} 已于 {day} 过期：请要新的欢迎文件",
    ),
    "cert.server": ("the coordinator's certificate", "协调方的证书"),
    "cert.authority": ("the authority's certificate", "签发机构的证书"),
    "cert.own": ("this node's certificate", "本节点的证书"),
    "clock.good": ("clock: {seconds:.0f} s from the coordinator's", "时钟：和协调方差 {seconds:.0f} 秒"),
    "clock.off": (
        "clock: {seconds:.0f} s {way} the coordinator's; above 300 s no order is accepted: set it by NTP",
        "时钟：比协调方{way} {seconds:.0f} 秒；超过 300 秒任务会被拒绝：请用 NTP 校时",
    ),
    "clock.behind": ("behind", "慢"),
    "clock.ahead": ("ahead of", "快"),
    "clock.unknown": ("clock: the coordinator told no time", "时钟：协调方没有告诉时间"),
}
