"""Options of a search in an index of images or vectors."""

from dataclasses import dataclass

from featlift.data.image_io import MAX_PIXELS


@dataclass(frozen=True)
class SearchOptions:
    """Options of a search.

    Attributes:
        index_type: Type of the FAISS index to search; empty searches exactly.
        where: Condition in SQL on the file's path in the index, such as "name LIKE 'cam0/%'"; only such images are found.
        expand: Number of first results that are added to the query for a second search (query expansion); 0 for none.
        scales: Factors of the embedder's input size at which a query image is embedded; the descriptors are averaged.
        names: Text file with one name per vector of a FAISS index that FeatLift did not make.
        device: Device of the embedder: "auto" (a GPU if available), "cpu" or "cuda".
        max_pixels: Maximum number of pixels of a query image.

    Raises:
        ValueError: If ``expand`` is negative, or ``scales`` is empty or not positive.
    """

    index_type: str = ""
    where: str = ""
    expand: int = 0
    scales: tuple[float, ...] = (1.0,)
    names: str = ""
    device: str = "auto"
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.expand < 0:
            raise ValueError(f"--expand is {self.expand}; give a number of results, or 0.")
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"--scales is {self.scales}; give factors above 0, such as 1,0.7.")
