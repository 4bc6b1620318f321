select * from {{ ref("report") }} where amount < 0
