"""Cell-cycle phases of the ``fucci`` system from reporter traces along tracks."""
