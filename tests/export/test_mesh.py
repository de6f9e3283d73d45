"""Meshes: triangles cut at edges, .glb and .obj as others read them, the photograph where it belongs."""

from __future__ import annotations

import io
import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from views import camera, colours, load_3d, plane, view_of

from prv2cli.errors import InputError
from prv2cli.export.mesh import TEXTURE_SIDE, Mesh, make_mesh, make_texture, surface, write_glb, write_obj
from prv2cli.export.targets import Target
from prv2cli.export.view import View
from prv2cli.export.write import Options, export

# --- triangles --------------------------------------------------------------------------------------------


def test_a_flat_grid_has_two_triangles_between_four_pixels_anticlockwise() -> None:
    found = surface(np.ones((3, 4), np.float32))
    assert (len(found.faces), len(found.corners), found.cut) == (12, 12, 0)
    rows, columns = np.divmod(found.corners[found.faces], 4)
    x, y = columns.astype(float), -rows.astype(float)  # as seen from the camera, y up
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    np.testing.assert_array_equal(area, 1)


def test_no_triangle_crosses_a_depth_edge() -> None:
    z = np.full((6, 8), 2.0, np.float32)
    z[:, 4:] = 2.2
    found = surface(z, 1.05)
    depths = z.ravel()[found.corners[found.faces]]
    assert (depths.max(1) / depths.min(1) == 1).all()
    assert len(found.faces) == 2 * 5 * 6
    assert found.cut == 2 * 5
    assert surface(z, 1.11).cut == 0


def test_a_slanted_edge_is_followed_along_the_diagonals() -> None:
    """Where depth changes along one diagonal only, the triangle beside it stays."""
    rows, columns = np.indices((6, 6))
    z = np.where(rows + columns < 6, 2.0, 3.0).astype(np.float32)
    found = surface(z)
    depths = z.ravel()[found.corners[found.faces]]
    assert (depths.max(1) == depths.min(1)).all()
    mirrored = surface(z[:, ::-1])
    assert len(mirrored.faces) == len(found.faces) == 2 * 25 - found.cut


def test_a_hole_takes_its_triangles_and_its_corner() -> None:
    z = np.ones((3, 3), np.float32)
    z[1, 1] = np.nan
    found = surface(z)
    assert 4 not in found.corners
    assert len(found.faces) == 4, "one in each corner of the square around it"
    assert found.cut == 0
    assert found.faces.max() == len(found.corners) - 1


def test_nothing_but_edges_is_refused_with_the_flag() -> None:
    lonely = np.full((4, 4), np.nan)
    lonely[::2, ::2] = 2.0
    with pytest.raises(InputError, match=r"depth\.npy: no triangle .* larger --max-edge \(it is 1\.05\)"):
        make_mesh(view_of(lonely))


# --- .glb -------------------------------------------------------------------------------------------------


def glb_of(made: Mesh) -> bytes:
    file = io.BytesIO()
    write_glb(file, made)
    return file.getvalue()


def slanted(rgb: np.ndarray | None = None) -> View:
    return view_of(plane(camera(40, 60).rays(), (0.3, 0.4, 1), 2.0).depth, rgb)


def test_trimesh_reads_the_glb_with_points_where_they_belong() -> None:
    view = slanted(colours(40, 60))
    mesh = load_3d(glb_of(make_mesh(view)))
    assert (len(mesh.vertices), len(mesh.faces)) == (2400, 2 * 39 * 59)
    z = float(view.depth[10, 50])  # by hand: column 50.5 is 20.5 right of, row 10.5 9.5 above the middle
    np.testing.assert_allclose(mesh.vertices[10 * 60 + 50], (20.5 * z / 120, 9.5 * z / 120, -z), rtol=1e-5)
    np.testing.assert_allclose(mesh.vertex_normals.mean(0), np.array((0.3, 0.4, 1)) / 1.25**0.5, atol=1e-3)
    np.testing.assert_allclose(mesh.face_normals.mean(0), np.array((0.3, 0.4, 1)) / 1.25**0.5, atol=1e-3)


def test_the_photograph_lies_on_the_glb_as_on_the_depth() -> None:
    mesh = load_3d(glb_of(make_mesh(slanted(colours(40, 60)))))
    picture = np.asarray(mesh.visual.material.baseColorTexture)
    uv = mesh.visual.uv[10 * 60 + 50]
    column, row = int(uv[0] * 60), int((1 - uv[1]) * 40)
    assert (row, column) == (10, 50)
    np.testing.assert_allclose(picture[row, column], (50, 10, 40), atol=4)


def test_the_glb_holds_the_camera_and_who_made_it() -> None:
    data = glb_of(make_mesh(slanted(colours(40, 60))))
    magic, version, length, size, kind = struct.unpack("<4sIII4s", data[:20])
    tree = json.loads(data[20 : 20 + size])
    assert (magic, version, length, kind) == (b"glTF", 2, len(data), b"JSON")
    lens = tree["cameras"][0]["perspective"]
    assert lens["yfov"] == pytest.approx(2 * np.arctan(20 / 120))
    assert lens["aspectRatio"] == pytest.approx(1.5)
    assert tree["asset"]["generator"].startswith("prv2cli ")
    assert tree["images"][0]["mimeType"] == "image/jpeg"
    assert tree["materials"][0]["pbrMetallicRoughness"]["metallicFactor"] == 0


def test_the_camera_stands_where_the_photographer_stood() -> None:
    """As a node of the scene, which Blender looks for, looking where the mesh is."""
    data = glb_of(make_mesh(slanted(colours(40, 60))))
    tree = json.loads(data[20 : 20 + struct.unpack("<I", data[12:16])[0]])
    nodes = tree["nodes"]
    parents = {child: k for k, node in enumerate(nodes) for child in node.get("children", [])}

    def world(k: int) -> np.ndarray:
        assert not {"translation", "rotation", "scale"} & set(nodes[k])
        own = np.reshape(nodes[k].get("matrix", np.eye(4).ravel()), (4, 4)).T
        if k not in parents:
            assert k in tree["scenes"][tree.get("scene", 0)]["nodes"]
            return own
        return world(parents[k]) @ own

    (photographer,) = [k for k, node in enumerate(nodes) if node.get("camera") == 0]
    (mesh,) = [k for k, node in enumerate(nodes) if "mesh" in node]
    assert nodes[photographer]["name"] == tree["cameras"][0]["name"] == "photograph"
    for k in (photographer, mesh):
        np.testing.assert_allclose(world(k), np.eye(4), atol=1e-12)


def test_a_mesh_without_a_photograph() -> None:
    data = glb_of(make_mesh(slanted()))
    assert b'"images"' not in data
    mesh = load_3d(data)
    assert len(mesh.faces) == 2 * 39 * 59


def test_more_triangles_than_wanted_are_thinned_evenly() -> None:
    view = slanted(colours(40, 60))
    made = make_mesh(view, max_faces=1000)
    assert made.report.step == 3
    assert made.report.faces == 2 * 12 * 19 <= 1000
    first = made.mesh.vertices[0]
    z = float(view.depth[1, 1])  # the middle one of three times three
    np.testing.assert_allclose(first, (-28.5 * z / 120, 18.5 * z / 120, -z), rtol=1e-5)
    np.testing.assert_allclose(made.mesh.visual.uv[0], (1.5 / 60, 1 - 1.5 / 40))
    assert make_mesh(view, max_faces=0).report.step == 1


def test_a_large_photograph_is_reduced_for_the_texture(monkeypatch: pytest.MonkeyPatch) -> None:
    rgb = np.zeros((100, 401, 3), np.uint16)
    rgb[:, 200:] = 65535
    assert TEXTURE_SIDE == 8192
    monkeypatch.setattr("prv2cli.export.mesh.TEXTURE_SIDE", 200)
    monkeypatch.setattr("prv2cli.export.mesh._TEXTURE_BAND", 401 * 10)
    texture = make_texture(rgb)
    picture = np.asarray(Image.open(io.BytesIO(texture.jpeg)).convert("L"))
    assert picture.shape == (34, 134)
    assert texture.size == (134, 34)
    assert (picture[:, :60] < 10).all()
    assert (picture[:, 70:] > 245).all()


# --- .obj -------------------------------------------------------------------------------------------------


def test_an_obj_comes_with_its_material_and_its_texture(tmp_path: Path) -> None:
    view = slanted(colours(40, 60))
    target = Target("mesh", tmp_path / "a scene.obj")
    (found,) = export(view, [target])
    assert found["companions"] == [str(tmp_path / "a scene.mtl"), str(tmp_path / "a scene_texture.jpg")]
    lines = (tmp_path / "a scene.obj").read_text().splitlines()
    z = float(view.depth[0, 0])
    corner = next(line for line in lines if line.startswith("v "))
    np.testing.assert_allclose(
        [float(n) for n in corner.split()[1:]], (-29.5 * z / 120, 19.5 * z / 120, -z), rtol=1e-5
    )
    assert "mtllib a scene.mtl" in lines
    place = next(line for line in lines if line.startswith("vt "))
    np.testing.assert_allclose([float(n) for n in place.split()[1:]], (0.5 / 60, 1 - 0.5 / 40), rtol=1e-5)
    assert "map_Kd a scene_texture.jpg" in (tmp_path / "a scene.mtl").read_text()
    with Image.open(tmp_path / "a scene_texture.jpg") as picture:
        assert picture.size == (60, 40)
    loaded = load_3d("\n".join(lines).encode(), "obj")
    assert len(loaded.faces) == found["faces"]


def test_an_obj_has_the_normals_of_the_glb_with_a_photograph_too(tmp_path: Path) -> None:
    waves = np.sin(np.arange(60) / 2) * np.cos(np.arange(40) / 3)[:, None]
    view = view_of((2 + 0.02 * waves).astype(np.float32), colours(40, 60))
    targets = [Target("mesh", tmp_path / name) for name in ("a.glb", "a.obj")]
    export(view, targets, Options(radius=3))
    expected = make_mesh(view, radius=3).mesh.vertex_normals
    lines = (tmp_path / "a.obj").read_text().splitlines()
    found = np.array([line.split()[1:] for line in lines if line.startswith("vn ")], float)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    weighted = make_mesh(view, radius=3).mesh.copy().vertex_normals
    assert np.abs(weighted - expected).max() > 1e-3, "or nothing was tested"


def test_an_obj_may_have_a_name_that_is_no_text(tmp_path: Path) -> None:
    target = Target("mesh", tmp_path / os.fsdecode(b"\xff.obj"))
    export(slanted(colours(40, 60)), [target])
    assert b"mtllib \xff.mtl" in target.path.read_bytes()
    assert b"map_Kd \xff_texture.jpg" in target.companions[0].read_bytes()


def test_an_obj_without_a_photograph_is_alone(tmp_path: Path) -> None:
    file = io.BytesIO()
    write_obj(file, make_mesh(slanted()), ())
    text = file.getvalue().decode()
    assert "mtllib" not in text
    assert text.count("\nf ") == 2 * 39 * 59
    export(slanted(), [Target("mesh", tmp_path / "x.obj")])
    assert [path.name for path in tmp_path.iterdir()] == ["x.obj"]
