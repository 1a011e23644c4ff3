//! Columns, aligned as Go's `text/tabwriter` does it for Docker: a column is a run of lines that have a cell there, and
//! the last cell of a line belongs to none.

/// Aligns lines whose cells end with tabs. A column is as wide as its widest cell and `padding`, and at least `minimum`.
pub(crate) fn align(text: &str, minimum: usize, padding: usize) -> String {
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = lines.iter().map(|cells| vec![0; cells.len() - 1]).collect();
    let columns = widths.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns {
        let mut start = 0;
        while start < lines.len() {
            let end = (start..lines.len()).find(|&line| widths[line].len() <= column).unwrap_or(lines.len());
            let cell = |line: usize| lines[line][column].chars().count() + padding;
            let width = (start..end).map(cell).max().unwrap_or(0).max(minimum);
            widths[start..end].iter_mut().for_each(|line| line[column] = width);
            start = end + 1;
        }
    }
    let mut out = String::new();
    for (cells, widths) in lines.iter().zip(&widths) {
        for (cell, width) in cells.iter().zip(widths) {
            out.push_str(cell);
            out.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
        }
        out.push_str(cells.last().copied().unwrap_or_default());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_at_least_the_minimum() {
        assert_eq!(
            align("NETWORK ID\tNAME\tSCOPE\n5099137de91e\tbridge\tlocal", 10, 3),
            "NETWORK ID     NAME      SCOPE\n5099137de91e   bridge    local\n"
        );
    }

    #[test]
    fn a_line_without_the_cell_ends_the_column() {
        assert_eq!(align("a\tb\nlonger\tc\n\nx\ty", 2, 1), "a      b\nlonger c\n\nx y\n");
        assert_eq!(
            align("Client:\n Version:\t1\n Go version:\t2", 20, 1),
            "Client:\n Version:           1\n Go version:        2\n"
        );
    }

    #[test]
    fn nothing_stays_nothing() {
        assert_eq!(align("", 10, 3), "");
    }
}
