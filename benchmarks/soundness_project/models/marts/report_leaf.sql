select region, cents, customers from {{ ref('report') }} where region is not null
