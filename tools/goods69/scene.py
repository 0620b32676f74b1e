"""Draws one model with VTK, off screen."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import vtkmodules.vtkRenderingOpenGL2  # noqa: F401  registers the renderer that draws off screen
from PIL import Image
from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray, vtk_to_numpy
from vtkmodules.vtkCommonCore import vtkObject, vtkPoints
from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkImageData, vtkPolyData
from vtkmodules.vtkFiltersCore import vtkPolyDataNormals, vtkTriangleFilter
from vtkmodules.vtkRenderingCore import (
    vtkActor,
    vtkLightKit,
    vtkPolyDataMapper,
    vtkRenderer,
    vtkRenderWindow,
    vtkTexture,
    vtkWindowToImageFilter,
)

from .views import View
from .wavefront import UNKNOWN, Material, Mesh, Part

AMBIENT, DIFFUSE, SPECULAR = 0.15, 0.85, 0.1
DARKEST_DIFFUSE = 0.08
# Panes: the files' opacities hide what is behind double panes, or leave nothing to see at all.
GLASS_BELOW_OPACITY = 0.95
GLASS_OPACITY_FACTOR = 0.6
LOWEST_OPACITY = 0.22
GLASS_TINT = (0.70, 0.87, 0.95)
LARGEST_TEXTURE_PX = 512
CAMERA_DISTANCE_RADII = 4.0


def _load_texture(path: Path) -> vtkTexture:
    with Image.open(path) as file:
        has_alpha = "A" in file.getbands() or "transparency" in file.info
        image = file.convert("RGBA" if has_alpha else "RGB")
    image.thumbnail((LARGEST_TEXTURE_PX, LARGEST_TEXTURE_PX))
    pixels = np.asarray(image)
    if has_alpha and pixels[..., 3].min() > 250:
        pixels = pixels[..., :3]
    height, width, channels = pixels.shape
    data = vtkImageData()
    data.SetDimensions(width, height, 1)
    # VTK's rows go up, a picture's rows go down.
    rows = np.ascontiguousarray(pixels[::-1]).reshape(-1, channels)
    data.GetPointData().SetScalars(numpy_to_vtk(rows, deep=True))
    texture = vtkTexture()
    texture.SetInputData(data)
    texture.InterpolateOn()
    texture.MipmapOn()
    texture.RepeatOn()
    return texture


def _poly_data(part: Part, mesh: Mesh, positions: np.ndarray, normals: np.ndarray) -> vtkPolyData:
    rows, inverse = np.unique(part.corners, axis=0, return_inverse=True)
    points = vtkPoints()
    points.SetData(numpy_to_vtk(np.ascontiguousarray(positions[rows[:, 0]]), deep=True))
    cells = vtkCellArray()
    cells.SetData(
        numpy_to_vtkIdTypeArray(part.offsets, deep=True),
        numpy_to_vtkIdTypeArray(inverse.reshape(-1).astype(np.int64), deep=True),
    )
    data = vtkPolyData()
    data.SetPoints(points)
    data.SetPolys(cells)
    if (rows[:, 1] != UNKNOWN).all():
        coordinates = np.ascontiguousarray(mesh.texture_coordinates[rows[:, 1]])
        data.GetPointData().SetTCoords(numpy_to_vtk(coordinates, deep=True))
    if (rows[:, 2] != UNKNOWN).all():
        vectors = np.ascontiguousarray(normals[rows[:, 2]])
        data.GetPointData().SetNormals(numpy_to_vtk(vectors, deep=True))
    return data


def _triangles(data: vtkPolyData) -> vtkPolyData:
    # Polygons may be concave, which a fan of triangles would fill wrongly.
    triangles = vtkTriangleFilter()
    triangles.SetInputData(data)
    triangles.PassLinesOff()
    triangles.PassVertsOff()
    triangles.Update()
    if triangles.GetOutput().GetPointData().GetNormals() is not None:
        return triangles.GetOutput()
    smooth = vtkPolyDataNormals()
    smooth.SetInputConnection(triangles.GetOutputPort())
    smooth.SetFeatureAngle(40)
    smooth.ConsistencyOff()
    smooth.Update()
    return smooth.GetOutput()


def _apply_material(actor: vtkActor, material: Material, textured: bool) -> None:
    looks = actor.GetProperty()
    # A texture carries its colour itself; many files multiply it by a dark one.
    colour = (1.0, 1.0, 1.0) if textured else material.diffuse
    opacity = material.opacity
    if opacity < GLASS_BELOW_OPACITY:
        opacity = max(LOWEST_OPACITY, GLASS_OPACITY_FACTOR * opacity)
        # Only colourless panes are tinted: they would look like grey board.
        if not textured and max(colour) - min(colour) < 0.1:
            colour = GLASS_TINT
    red, green, blue = (min(1.0, max(DARKEST_DIFFUSE, channel)) for channel in colour)
    looks.SetDiffuseColor(red, green, blue)
    looks.SetAmbientColor(red, green, blue)
    looks.SetSpecularColor(1, 1, 1)
    looks.SetAmbient(AMBIENT)
    looks.SetDiffuse(DIFFUSE)
    looks.SetSpecular(SPECULAR)
    looks.SetSpecularPower(20)
    looks.SetOpacity(min(1.0, opacity))


class Scene:
    """One model, ready to be drawn from any side at one size.

    Holds an OpenGL context; meant for a process that draws one model and ends.
    """

    def __init__(self, mesh: Mesh, rotation: np.ndarray, size_px: int) -> None:
        """Load `mesh`, turned by the 3 × 3 `rotation`, into a window of `size_px` squared."""
        vtkObject.GlobalWarningDisplayOff()
        used = np.unique(np.concatenate([part.corners[:, 0] for part in mesh.parts]))
        turned = mesh.positions @ rotation.T
        low, high = turned[used].min(axis=0), turned[used].max(axis=0)
        # Every model becomes one unit in radius around the origin.
        self.extents = high - low
        """Width, height and depth in the file's unit: (3,)."""
        radius = max(float(np.linalg.norm(high - low)) / 2, 1e-9)
        positions = (turned - (low + high) / 2) / radius
        self._outline = positions[used]
        self._renderer = vtkRenderer()
        self._renderer.SetBackground(0, 0, 0)
        self._renderer.SetBackgroundAlpha(0)
        self._lights = vtkLightKit()
        self._lights.AddLightsToRenderer(self._renderer)
        translucent = self._add_actors(mesh, positions, mesh.normals @ rotation.T)
        if translucent:
            self._renderer.SetUseDepthPeeling(True)
            self._renderer.SetMaximumNumberOfPeels(12)
        self._window = vtkRenderWindow()
        self._window.SetOffScreenRendering(True)
        self._window.SetAlphaBitPlanes(True)
        self._window.SetMultiSamples(0)
        self._window.SetSize(size_px, size_px)
        self._window.AddRenderer(self._renderer)
        self._size_px = size_px

    def _add_actors(self, mesh: Mesh, positions: np.ndarray, normals: np.ndarray) -> bool:
        textures: dict[Path, vtkTexture] = {}
        translucent = False
        for part in mesh.parts:
            data = _triangles(_poly_data(part, mesh, positions, normals))
            mapper = vtkPolyDataMapper()
            mapper.SetInputData(data)
            mapper.ScalarVisibilityOff()
            actor = vtkActor()
            actor.SetMapper(mapper)
            path = part.material.texture
            textured = path is not None and data.GetPointData().GetTCoords() is not None
            if path is not None and textured:
                if path not in textures:
                    textures[path] = _load_texture(path)
                actor.SetTexture(textures[path])
            _apply_material(actor, part.material, textured)
            translucent |= bool(actor.HasTranslucentPolygonalGeometry())
            self._renderer.AddActor(actor)
        return translucent

    def _aim(self, view: View) -> None:
        """Stand the camera so that the outline's longer side is `view.fill` of the picture."""
        azimuth, elevation = math.radians(view.azimuth_deg), math.radians(view.elevation_deg)
        toward_camera = np.array(
            [
                math.sin(azimuth) * math.cos(elevation),
                math.sin(elevation),
                math.cos(azimuth) * math.cos(elevation),
            ]
        )
        right = np.array([math.cos(azimuth), 0.0, -math.sin(azimuth)])
        up = np.cross(toward_camera, right)
        roll = math.radians(view.roll_deg)
        right, up = (
            math.cos(roll) * right + math.sin(roll) * up,
            math.cos(roll) * up - math.sin(roll) * right,
        )
        depth = CAMERA_DISTANCE_RADII - self._outline @ toward_camera
        flat = np.stack([self._outline @ right, self._outline @ up], axis=1) / depth[:, None]
        low, high = flat.min(axis=0), flat.max(axis=0)
        half_side = max(float((high - low).max()) / 2, 1e-6) / view.fill
        # The object slides within the free space only, so that nothing is cut off.
        free = half_side - (high - low) / 2
        centre = (low + high) / 2 - free * np.array([view.shift_x, view.shift_y])
        camera = self._renderer.GetActiveCamera()
        camera.SetFocalPoint(0, 0, 0)
        camera.SetPosition(*(toward_camera * CAMERA_DISTANCE_RADII))
        camera.SetViewUp(*up)
        camera.SetViewAngle(2 * math.degrees(math.atan(half_side)))
        camera.SetWindowCenter(*(centre / half_side))
        self._renderer.ResetCameraClippingRange()

    def draw(self, view: View) -> np.ndarray:
        """The model alone: (size_px, size_px, 4) float32 in 0 to 1, colours times alpha."""
        self._lights.SetKeyLightIntensity(view.key_intensity)
        self._lights.SetKeyLightWarmth(view.key_warmth)
        self._aim(view)
        self._window.Render()
        grab = vtkWindowToImageFilter()
        grab.SetInput(self._window)
        grab.SetInputBufferTypeToRGBA()
        grab.ReadFrontBufferOff()
        grab.Update()
        pixels = vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars())
        shape = (self._size_px, self._size_px, 4)
        return np.asarray(pixels.reshape(shape)[::-1], dtype=np.float32) / 255
