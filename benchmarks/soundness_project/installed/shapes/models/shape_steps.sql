select n * {{ var('step') }} as lower_bound, {{ shapes.bucket('n * 7') }} as bucket
from (select unnest(range(0, 12)) as n) as numbers
