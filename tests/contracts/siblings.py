"""A contract for import-linter: in a room that multiplies, nobody imports a public sibling.

Files whose name starts with an underscore are shared by their room and may be imported by its members, but they do
not import a member either: a chain through them would tie two members together.
"""

from __future__ import annotations

from grimp import ImportGraph
from importlinter import Contract, ContractCheck, fields, output


class SiblingsContract(Contract):
    """``rooms``: packages whose public files are independent of each other."""

    type_name = "siblings"

    rooms = fields.ListField(subfield=fields.StringField())

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Every import of a member's file by a file of the same room that is not part of that member."""
        found = []
        for room in self.rooms:  # type: ignore[attr-defined]
            if room not in graph.modules:
                raise ValueError(f"room {room} is not a package of this project")
            depth = room.count(".") + 1

            def member(module: str, depth: int = depth) -> str:
                return module.split(".")[depth]

            inside = sorted(graph.find_descendants(room))
            for importer in inside:
                for imported in sorted(graph.find_modules_directly_imported_by(importer) & {*inside}):
                    if member(importer) != member(imported) and not member(imported).startswith("_"):
                        details = graph.get_import_details(importer=importer, imported=imported)
                        found.append((importer, imported, [d["line_number"] for d in details]))
        return ContractCheck(kept=not found, metadata={"found": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Says who imports whom, and where."""
        for importer, imported, lines in check.metadata["found"]:
            output.print_error(f"{importer} imports {imported} (l.{', '.join(map(str, lines))})")
        output.new_line()
        output.print("Move what both need below the room, or into a file of the room whose name starts with _.")
        output.new_line()
