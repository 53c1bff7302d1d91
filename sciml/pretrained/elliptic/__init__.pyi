from .corrections import check_correctable, correct_grid, correct_solution
from .elliptic_operator import solve, verify_own

__all__ = ["check_correctable", "correct_grid", "correct_solution", "solve", "verify_own"]
